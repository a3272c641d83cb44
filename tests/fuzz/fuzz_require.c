/* SPDX-License-Identifier: Apache-2.0 */
/* How a target says that what it got is wrong: an abort, which libFuzzer and the sanitizers report with the input. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

void
fuzz_require(int condition, const char *what)
{
    if (condition)
        return;
    (void)fprintf(stderr, "fuzz: %s\n", what);
    abort();
}
