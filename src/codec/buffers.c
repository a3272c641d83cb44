/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/buffers.h"

#include "env/env.h"

void
buffers_init(struct buffers *buffers, struct env *env, size_t align)
{
    buffers->env = env;
    buffers->align = align;
    buffers->idle_bytes = 0;
    buffers->idle_count = 0;
    mutex_init(&buffers->mutex);
}

void
buffers_deinit(struct buffers *buffers)
{
    while (buffers->idle_count > 0)
        env_free(buffers->env, buffers->idle[--buffers->idle_count].memory);
    mutex_deinit(&buffers->mutex);
}

/* The one given back last that is large enough, but not so large that it is wasted on this. Lock held. */
static struct buffer
take_idle(struct buffers *buffers, uint64_t bytes)
{
    for (uint32_t i = buffers->idle_count; i-- > 0;) {
        struct buffer found = buffers->idle[i];

        if (found.bytes < bytes || found.bytes / 2 > bytes)
            continue;
        buffers->idle_bytes -= found.bytes;
        buffers->idle_count--;
        for (; i < buffers->idle_count; i++)
            buffers->idle[i] = buffers->idle[i + 1];
        return found;
    }
    return (struct buffer){NULL, 0};
}

struct buffer
buffers_acquire(struct buffers *buffers, uint64_t bytes)
{
    struct buffer buffer = {NULL, 0};

    if (bytes >= BUFFERS_KEPT_MIN) {
        mutex_lock(&buffers->mutex);
        buffer = take_idle(buffers, bytes);
        mutex_unlock(&buffers->mutex);
    }
    if (buffer.memory == NULL)
        buffer = (struct buffer){buffers->env->ops->alloc(buffers->env, (size_t)bytes, buffers->align), bytes};
    return buffer;
}

void
buffers_release(struct buffers *buffers, struct buffer buffer)
{
    if (buffer.bytes >= BUFFERS_KEPT_MIN && buffer.memory != NULL) {
        mutex_lock(&buffers->mutex);
        if (buffers->idle_count < BUFFERS_IDLE_MAX && buffers->idle_bytes + buffer.bytes <= BUFFERS_IDLE_BYTES_MAX) {
            buffers->idle[buffers->idle_count++] = buffer;
            buffers->idle_bytes += buffer.bytes;
            buffer.memory = NULL;
        }
        mutex_unlock(&buffers->mutex);
    }
    env_free(buffers->env, buffer.memory);
}
