/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/choice.h"

#include <stdbool.h>

#include "codec/codec.h"

#define MARGIN_PERCENT 5 /* what is as fast as before within the accuracy of all this may be slower */

/* Times in seconds for pages of one byte each. */
static bool
reads_as_fast(const struct codec_facts *facts)
{
    double pages = (double)facts->pages;
    double plain = pages / (double)facts->read_bandwidth;
    double coded = pages / (double)facts->coded_bandwidth + 1.0 / (double)facts->decode_speed;

    return coded * (100 + MARGIN_PERCENT) <= plain * 100;
}

enum codec_choice
codec_choose(const struct codec_facts *facts)
{
    if (facts->mode == CODEC_MODE_OFF)
        return CODEC_CHOICE_OFF;
    if (facts->stored_permille > 1000 - 10 * CODEC_SAVING_MIN_PERCENT)
        return CODEC_CHOICE_SAVING;
    if (facts->mode == CODEC_MODE_ON)
        return CODEC_CHOICE_CODED;
    if (facts->read_bandwidth == 0 || facts->coded_bandwidth == 0 || facts->decode_speed == 0)
        return CODEC_CHOICE_UNMEASURED;
    return reads_as_fast(facts) ? CODEC_CHOICE_CODED : CODEC_CHOICE_SPEED;
}
