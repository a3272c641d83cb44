/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token ids to page ids, as SGLang's get_hash_str (mem_cache/utils.py) computes them: SHA-256 of the previous 32 raw
 * bytes, if any, followed by the page's token ids as little-endian uint32.
 */
#include <openssl/evp.h>
#include <stdbool.h>
#include <string.h>

#include "base/wire.h"
#include "varve.h"

#define TOKENS_AT_ONCE 256

static bool
hash_page_tokens(EVP_MD_CTX *sha, const varve_id *prior, const uint32_t *tokens, size_t count, varve_id *out)
{
    uint8_t bytes[TOKENS_AT_ONCE * 4];
    unsigned size = 0;

    if (EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1)
        return false;
    if (prior != NULL && EVP_DigestUpdate(sha, prior->bytes, VARVE_ID_BYTES) != 1)
        return false;
    while (count > 0) {
        size_t part = count < TOKENS_AT_ONCE ? count : TOKENS_AT_ONCE;

        for (size_t i = 0; i < part; i++)
            wire_put32(bytes + i * 4, tokens[i]);
        if (EVP_DigestUpdate(sha, bytes, part * 4) != 1)
            return false;
        tokens += part;
        count -= part;
    }
    return EVP_DigestFinal_ex(sha, out->bytes, &size) == 1 && size == VARVE_ID_BYTES;
}

int64_t
varve_chain(const uint32_t *tokens, size_t token_count, size_t page_tokens, const varve_id *prior, varve_id *ids)
{
    EVP_MD_CTX *sha;
    size_t pages;

    if (page_tokens == 0 || (token_count > 0 && tokens == NULL))
        return VARVE_E_ARG;
    pages = token_count / page_tokens;
    if (pages == 0)
        return 0;
    if (ids == NULL || pages > (size_t)INT64_MAX)
        return VARVE_E_ARG;
    sha = EVP_MD_CTX_new();
    if (sha == NULL)
        return VARVE_E_NOMEM;
    for (size_t i = 0; i < pages; i++) {
        if (!hash_page_tokens(sha, prior, tokens + i * page_tokens, page_tokens, &ids[i])) {
            EVP_MD_CTX_free(sha);
            return VARVE_E_NOMEM; /* the only way SHA-256 fails */
        }
        prior = &ids[i];
    }
    EVP_MD_CTX_free(sha);
    return (int64_t)pages;
}
