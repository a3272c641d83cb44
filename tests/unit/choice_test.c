/* SPDX-License-Identifier: Apache-2.0 */
/* What is coded, case by case. Speeds in MB/s. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/choice.h"

#define MB 1000000u

static void
test_choices(void **state)
{
    static const struct {
        struct codec_facts facts; /* speeds in MB/s */
        enum codec_choice wanted;
    } cases[] = {
        /* The option comes first. */
        {{CODEC_MODE_OFF, 700, 100, 1000, 9000, 3000}, CODEC_CHOICE_OFF},
        {{CODEC_MODE_OFF, 1000, 1, 0, 0, 0}, CODEC_CHOICE_OFF},
        {{CODEC_MODE_ON, 700, 1, 9000, 10, 10}, CODEC_CHOICE_CODED},
        {{CODEC_MODE_ON, 700, 1, 0, 0, 0}, CODEC_CHOICE_CODED},
        /* 8 % is enough, less is not, whatever the speeds. */
        {{CODEC_MODE_ON, 920, 1, 0, 0, 0}, CODEC_CHOICE_CODED},
        {{CODEC_MODE_ON, 921, 1, 0, 0, 0}, CODEC_CHOICE_SAVING},
        {{CODEC_MODE_ON, 1000, 1, 0, 0, 0}, CODEC_CHOICE_SAVING},
        {{CODEC_MODE_AUTO, 921, 100, 1000, 9000, 3000}, CODEC_CHOICE_SAVING},
        {{CODEC_MODE_AUTO, 921, 100, 0, 0, 0}, CODEC_CHOICE_SAVING},
        {{CODEC_MODE_AUTO, 0, 100, 1000, 9000, 3000}, CODEC_CHOICE_CODED},
        /* What is not known is not risked. */
        {{CODEC_MODE_AUTO, 700, 100, 0, 0, 0}, CODEC_CHOICE_UNMEASURED},
        {{CODEC_MODE_AUTO, 700, 100, 0, 9000, 3000}, CODEC_CHOICE_UNMEASURED},
        {{CODEC_MODE_AUTO, 700, 100, 1000, 0, 3000}, CODEC_CHOICE_UNMEASURED},
        {{CODEC_MODE_AUTO, 700, 100, 1000, 9000, 0}, CODEC_CHOICE_UNMEASURED},
        /* Faster, by more than 5 %; as fast; slower. */
        {{CODEC_MODE_AUTO, 700, 1000, 1000, 1400, 3000}, CODEC_CHOICE_CODED},
        {{CODEC_MODE_AUTO, 700, 1000, 1000, 1060, 3000}, CODEC_CHOICE_CODED},
        {{CODEC_MODE_AUTO, 700, 1000, 1000, 1040, 3000}, CODEC_CHOICE_SPEED},
        {{CODEC_MODE_AUTO, 700, 1000, 1000, 1000, 3000}, CODEC_CHOICE_SPEED},
        {{CODEC_MODE_AUTO, 700, 1000, 7000, 5500, 3000}, CODEC_CHOICE_SPEED},
        /* The last page is decoded when all is read: a third of a page's time of the device at 1000 MB/s. */
        {{CODEC_MODE_AUTO, 700, 1, 1000, 1400, 3000}, CODEC_CHOICE_SPEED},
        {{CODEC_MODE_AUTO, 700, 2, 1000, 1400, 3000}, CODEC_CHOICE_CODED},
        {{CODEC_MODE_AUTO, 700, 1, 100, 140, 3000}, CODEC_CHOICE_CODED},
        {{CODEC_MODE_AUTO, 700, 2, 2000, 2800, 3000}, CODEC_CHOICE_SPEED},
        {{CODEC_MODE_AUTO, 700, 4, 2000, 2800, 3000}, CODEC_CHOICE_CODED},
        {{CODEC_MODE_AUTO, 700, 4, 2000, 2800, 100}, CODEC_CHOICE_SPEED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct codec_facts facts = cases[i].facts;
        enum codec_choice choice;

        facts.read_bandwidth *= MB;
        facts.coded_bandwidth *= MB;
        facts.decode_speed *= MB;
        choice = codec_choose(&facts);
        if (choice != cases[i].wanted)
            fail_msg("case %zu: %d, not %d", i, (int)choice, (int)cases[i].wanted);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_choices)};

    return cmocka_run_group_tests_name("choice", tests, NULL, NULL);
}
