#include <stdio.h>
#include <varve.h>

int main(int argc, char **argv)
{
    static char kv[4][65536] = {"first", "second", "third", "fourth"}, back[4][65536]; /* KV bytes, 4 pages */
    static const uint32_t tokens[256] = {1, 15043, 29892}; /* the prompt: 4 pages of 64 tokens */
    varve_store *store;
    varve_namespace *ns;
    varve_id ids[4];
    varve_error err;

    varve_chain(tokens, 256, 64, NULL, ids);
    if (varve_open(argc > 1 ? argv[1] : "kv", NULL, &store, &err) != VARVE_OK ||
        varve_namespace_open(store, "llama-8b/bf16/tp0", NULL, &ns, &err) != VARVE_OK)
        return fprintf(stderr, "%s\n", err.message), 1;
    printf("%d of 4 pages are stored\n", (int)varve_probe(store, ns, ids, 4, NULL, NULL));
    struct iovec from[4], to[4];
    varve_page put[4], get[4];
    for (int i = 0; i < 4; i++) {
        from[i] = (struct iovec){kv[i], sizeof(kv[i])}, to[i] = (struct iovec){back[i], sizeof(back[i])};
        put[i] = (varve_page){.id = ids[i], .iov = &from[i], .iov_count = 1};
        get[i] = (varve_page){.id = ids[i], .iov = &to[i], .iov_count = 1};
    }
    varve_put_batch(store, ns, NULL, put, 4, 0, NULL); /* a miss or a failure is a page's status */
    varve_get_batch(store, ns, get, 4, NULL);
    printf("page 2 is \"%s\", status %d\n", back[2], get[2].status);
    return varve_close(store, &err) == VARVE_OK ? 0 : 1;
}
