/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A prompt is a chain of full blocks and a tail of fewer tokens than a block. A full block gets an id of its own when
 * it fills up, and forks copy ids, so equal ids mean equal prefixes by construction. The tail block's id lasts until
 * the tail grows. Ids are renumbered by first appearance when they are emitted.
 */
#include "trace_generate.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

#define NO_ID          UINT64_MAX
#define SYSTEM_PROMPTS 4   /* of chat: a few applications share a server */
#define RECENT_PROMPTS 256 /* of stages: what a new prompt may share with */
#define RETRY_PERCENT  5   /* of agent: the same call once more */

struct chain {
    uint64_t *ids; /* full blocks */
    size_t count;
    size_t capacity;
    uint64_t tail_tokens;
    uint64_t tail_id; /* NO_ID until the tail is emitted */
};

struct session {
    struct chain chain;
    uint64_t turns_left;
    double next_ms;
};

struct generator {
    struct trace_settings settings;
    struct random random;
    uint64_t next_id;
    uint64_t *numbers; /* [id]: as emitted, NO_ID before */
    size_t number_capacity;
    uint64_t number_count;
    uint64_t emitted;
    bool out_of_memory; /* sticky: looked at once a request */
    struct trace_request request;
    int (*emit)(void *arg, const struct trace_request *request);
    void *arg;
};

const char *
trace_kind_name(enum trace_kind kind)
{
    static const char *const names[TRACE_KIND_COUNT] = {"chat", "agent", "docqa", "stages"};

    return names[kind];
}

struct trace_settings
trace_settings_default(enum trace_kind kind)
{
    static const struct trace_settings defaults[TRACE_KIND_COUNT] = {
        [TRACE_CHAT] =
            {.prompt_tokens = 2048, .output_tokens = 300, .sharing = 0.5, .turns = 5, .rate = 4, .users = 64},
        [TRACE_AGENT] =
            {.prompt_tokens = 8192, .output_tokens = 200, .sharing = 0.5, .turns = 40, .rate = 2, .users = 20},
        [TRACE_DOCQA] =
            {.prompt_tokens = 16384, .output_tokens = 100, .sharing = 0.95, .turns = 1, .rate = 4, .users = 1},
        [TRACE_STAGES] = {.prompt_tokens = 4096, .output_tokens = 1, .sharing = 0.9, .turns = 1, .rate = 4, .users = 1},
    };
    struct trace_settings settings = defaults[kind];

    settings.kind = kind;
    settings.requests = 1000;
    settings.seed = 1;
    settings.block_size = TRACE_BLOCK_SIZE;
    return settings;
}

static void
chain_push(struct generator *generator, struct chain *chain, uint64_t id)
{
    if (chain->count == chain->capacity) {
        size_t capacity = chain->capacity == 0 ? 16 : 2 * chain->capacity;
        uint64_t *ids = reallocarray(chain->ids, capacity, sizeof(*ids));

        if (ids == NULL) {
            generator->out_of_memory = true;
            return;
        }
        chain->ids = ids;
        chain->capacity = capacity;
    }
    chain->ids[chain->count++] = id;
}

static void
chain_append(struct generator *generator, struct chain *chain, uint64_t tokens)
{
    uint64_t block_size = generator->settings.block_size;

    if (tokens == 0)
        return;
    chain->tail_tokens += tokens;
    chain->tail_id = NO_ID;
    for (; chain->tail_tokens >= block_size && !generator->out_of_memory; chain->tail_tokens -= block_size)
        chain_push(generator, chain, generator->next_id++);
}

/* Make *to the first `tokens` tokens of *from (all of it, if it is shorter); the two go on apart. */
static void
chain_copy(struct generator *generator, struct chain *to, const struct chain *from, uint64_t tokens)
{
    uint64_t block_size = generator->settings.block_size;
    uint64_t length = from->count * block_size + from->tail_tokens;

    assert(block_size >= 1);
    if (tokens > length)
        tokens = length;
    to->count = 0;
    for (size_t i = 0; i < tokens / block_size; i++) {
        assert(i < from->count && from->ids != NULL);
        chain_push(generator, to, from->ids[i]);
    }
    to->tail_tokens = tokens % block_size;
    to->tail_id = tokens == length ? from->tail_id : NO_ID;
}

static bool
numbers_reserve(struct generator *generator, uint64_t id)
{
    size_t capacity = generator->number_capacity;
    uint64_t *numbers;

    if (id < capacity)
        return true;
    while (capacity <= id)
        capacity = capacity == 0 ? 1024 : 2 * capacity;
    numbers = reallocarray(generator->numbers, capacity, sizeof(*numbers));
    if (numbers == NULL)
        return false;
    for (size_t i = generator->number_capacity; i < capacity; i++)
        numbers[i] = NO_ID;
    generator->numbers = numbers;
    generator->number_capacity = capacity;
    return true;
}

static void
request_add(struct generator *generator, uint64_t id)
{
    if (!numbers_reserve(generator, id)) {
        generator->out_of_memory = true;
        return;
    }
    if (generator->numbers[id] == NO_ID)
        generator->numbers[id] = generator->number_count++;
    if (!trace_request_add(&generator->request, generator->numbers[id]))
        generator->out_of_memory = true;
}

/* Hand out the chain as the prompt of a request. */
static int
emit_prompt(struct generator *generator, struct chain *chain, double time_ms, uint64_t output_tokens, uint64_t stage)
{
    struct trace_request *request = &generator->request;

    request->timestamp_ms = (uint64_t)time_ms;
    request->block_size = generator->settings.block_size;
    request->input_length = chain->count * request->block_size + chain->tail_tokens;
    request->output_length = output_tokens;
    request->stage = stage;
    request->hash_count = 0;
    if (chain->tail_tokens > 0 && chain->tail_id == NO_ID)
        chain->tail_id = generator->next_id++;
    for (size_t i = 0; i < chain->count; i++)
        request_add(generator, chain->ids[i]);
    if (chain->tail_tokens > 0)
        request_add(generator, chain->tail_id);
    if (generator->out_of_memory)
        return VARVE_E_NOMEM;
    generator->emitted++;
    return generator->emit(generator->arg, request);
}

/* A length with the given mean and a long tail, at least 1. */
static uint64_t
draw_tokens(struct generator *generator, double mean)
{
    double value = mean * 0.5 * (1.0 + random_exponential(&generator->random));

    return value < 1.0 ? 1 : (uint64_t)value;
}

/* Positions 0..count-1 with weights 1/1, 1/2, 1/3 ...; cumulative[i] is the sum of the first i + 1. */
static size_t
draw_zipf(struct generator *generator, const double *cumulative, size_t count)
{
    double wanted = random_unit(&generator->random) * cumulative[count - 1];
    size_t low = 0;
    size_t high = count - 1;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (cumulative[middle] <= wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static double *
make_zipf(size_t count)
{
    double *cumulative = reallocarray(NULL, count, sizeof(*cumulative));
    double sum = 0.0;

    for (size_t i = 0; cumulative != NULL && i < count; i++)
        cumulative[i] = sum += 1.0 / (double)(i + 1);
    return cumulative;
}

static double
wait_ms(struct generator *generator, double mean_ms)
{
    return mean_ms * random_exponential(&generator->random);
}

static struct session *
earliest_session(struct session *sessions, size_t count)
{
    struct session *earliest = &sessions[0];

    for (size_t i = 1; i < count; i++) {
        if (sessions[i].next_ms < earliest->next_ms)
            earliest = &sessions[i];
    }
    return earliest;
}

/* A new conversation or task: one of the shared prompts, then tokens of its own. */
static void
session_begin(struct generator *generator, struct session *session, const struct chain *shared, size_t shared_count,
              const double *zipf)
{
    const struct trace_settings *settings = &generator->settings;
    size_t which = draw_zipf(generator, zipf, shared_count);
    double own = (double)settings->prompt_tokens * (1.0 - settings->sharing);

    chain_copy(generator, &session->chain, &shared[which], UINT64_MAX);
    session->chain.tail_id = NO_ID;
    chain_append(generator, &session->chain, draw_tokens(generator, own));
    session->turns_left = 1;
    if (settings->turns > 1)
        session->turns_left += (uint64_t)((double)(settings->turns - 1) * random_exponential(&generator->random) + 0.5);
}

/*
 * One request of a session: the prompt as it stands; then the answer and what the user or the tool says next join it.
 */
static int
session_step(struct generator *generator, struct session *session)
{
    const struct trace_settings *settings = &generator->settings;
    bool agent = settings->kind == TRACE_AGENT;
    uint64_t output = draw_tokens(generator, (double)settings->output_tokens);
    int rc = emit_prompt(generator, &session->chain, session->next_ms, output, 0);

    session->turns_left--;
    session->next_ms += wait_ms(generator, 1000.0 * (double)settings->users / settings->rate);
    if (agent && random_below(&generator->random, 100) < RETRY_PERCENT)
        return rc;
    chain_append(generator, &session->chain, output);
    chain_append(generator, &session->chain,
                 draw_tokens(generator, (double)settings->prompt_tokens / (agent ? 8.0 : 16.0)));
    return rc;
}

static int
generate_sessions(struct generator *generator)
{
    const struct trace_settings *settings = &generator->settings;
    size_t shared_count = settings->kind == TRACE_AGENT ? 1 : SYSTEM_PROMPTS;
    struct chain shared[SYSTEM_PROMPTS] = {0};
    struct session *sessions = calloc((size_t)settings->users, sizeof(*sessions));
    double *zipf = make_zipf(shared_count);
    int rc = sessions == NULL || zipf == NULL ? VARVE_E_NOMEM : VARVE_OK;

    for (size_t i = 0; rc == VARVE_OK && i < shared_count; i++)
        chain_append(generator, &shared[i], (uint64_t)((double)settings->prompt_tokens * settings->sharing));
    for (size_t i = 0; rc == VARVE_OK && i < settings->users; i++)
        sessions[i].next_ms = wait_ms(generator, 1000.0 * (double)settings->users / settings->rate);
    while (rc == VARVE_OK && generator->emitted < settings->requests) {
        struct session *session = earliest_session(sessions, (size_t)settings->users);

        if (session->turns_left == 0)
            session_begin(generator, session, shared, shared_count, zipf);
        rc = session_step(generator, session);
    }
    for (size_t i = 0; sessions != NULL && i < settings->users; i++)
        free(sessions[i].chain.ids);
    for (size_t i = 0; i < shared_count; i++)
        free(shared[i].ids);
    free(sessions);
    free(zipf);
    return rc;
}

static int
generate_docqa(struct generator *generator)
{
    const struct trace_settings *settings = &generator->settings;
    size_t count = 1 + (size_t)((double)settings->requests * (1.0 - settings->sharing));
    struct chain *documents = calloc(count, sizeof(*documents));
    struct chain prompt = {0};
    double *zipf = make_zipf(count);
    double time_ms = 0.0;
    int rc = documents == NULL || zipf == NULL ? VARVE_E_NOMEM : VARVE_OK;

    while (rc == VARVE_OK && generator->emitted < settings->requests) {
        struct chain *document = &documents[draw_zipf(generator, zipf, count)];

        if (document->count == 0 && document->tail_tokens == 0)
            chain_append(generator, document, draw_tokens(generator, (double)settings->prompt_tokens));
        chain_copy(generator, &prompt, document, UINT64_MAX);
        chain_append(generator, &prompt, draw_tokens(generator, 64.0)); /* the question */
        time_ms += wait_ms(generator, 1000.0 / settings->rate);
        rc = emit_prompt(generator, &prompt, time_ms, draw_tokens(generator, (double)settings->output_tokens), 0);
    }
    for (size_t i = 0; documents != NULL && i < count; i++)
        free(documents[i].ids);
    free(documents);
    free(prompt.ids);
    free(zipf);
    return rc;
}

/*
 * Ten stages, each a tenth of the requests: cold, rising, falling, and a jump at the end, so that reads and writes
 * prevail in turn. In a stage every prompt shares that part of its length, times settings->sharing, with one of the
 * last RECENT_PROMPTS.
 */
static int
generate_stages(struct generator *generator)
{
    static const double stage_sharing[TRACE_STAGE_COUNT] = {0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.75, 0.5, 0.25, 0.9};
    const struct trace_settings *settings = &generator->settings;
    struct chain *recent = calloc(RECENT_PROMPTS, sizeof(*recent));
    struct chain prompt = {0};
    double time_ms = 0.0;
    int rc = recent == NULL ? VARVE_E_NOMEM : VARVE_OK;

    while (rc == VARVE_OK && generator->emitted < settings->requests) {
        uint64_t stage = generator->emitted * TRACE_STAGE_COUNT / settings->requests;
        uint64_t known = generator->emitted < RECENT_PROMPTS ? generator->emitted : RECENT_PROMPTS;
        double share = stage_sharing[stage] * settings->sharing;
        uint64_t shared_tokens = known == 0 ? 0 : (uint64_t)(share * (double)settings->prompt_tokens);
        struct chain *slot = &recent[generator->emitted % RECENT_PROMPTS];

        chain_copy(generator, &prompt, &recent[random_below(&generator->random, known == 0 ? 1 : known)],
                   shared_tokens);
        chain_append(generator, &prompt, settings->prompt_tokens - shared_tokens);
        time_ms += wait_ms(generator, 1000.0 / settings->rate);
        rc = emit_prompt(generator, &prompt, time_ms, settings->output_tokens, stage + 1);
        chain_copy(generator, slot, &prompt, UINT64_MAX);
    }
    for (size_t i = 0; recent != NULL && i < RECENT_PROMPTS; i++)
        free(recent[i].ids);
    free(recent);
    free(prompt.ids);
    return rc;
}

int
trace_generate(const struct trace_settings *settings, int (*emit)(void *arg, const struct trace_request *request),
               void *arg)
{
    struct generator generator = {.settings = *settings, .emit = emit, .arg = arg};
    int rc = VARVE_E_ARG;

    assert(settings->requests >= 1 && settings->prompt_tokens >= 1 && settings->block_size >= 1);
    assert(settings->users >= 1 && settings->rate > 0 && settings->sharing >= 0 && settings->sharing <= 1);
    generator.random = random_make(settings->seed);
    switch (settings->kind) {
    case TRACE_CHAT:
    case TRACE_AGENT:
        rc = generate_sessions(&generator);
        break;
    case TRACE_DOCQA:
        rc = generate_docqa(&generator);
        break;
    case TRACE_STAGES:
        rc = generate_stages(&generator);
        break;
    case TRACE_KIND_COUNT:
        break; /* not a kind */
    }
    trace_request_deinit(&generator.request);
    free(generator.numbers);
    return rc;
}
