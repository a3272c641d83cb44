/* SPDX-License-Identifier: Apache-2.0 */
/*
 * choice.h - whether an extent is to be coded: a pure function of what was measured.
 *
 * Reading a coded extent takes fewer bytes from the device, but each page must then be decoded, by as many threads as there are, while later pages are
 * still being read. How fast the two go together is measured as one, since they share processors; what cannot be hidden is the last
 * page's decoding. So an extent of many pages is coded even where one page alone would come later than before.
 */
#ifndef VARVE_CODEC_CHOICE_H
#define VARVE_CODEC_CHOICE_H

#include <stdint.h>

/* In the order of the option `codec`. */
enum codec_mode {
    CODEC_MODE_AUTO,
    CODEC_MODE_ON,
    CODEC_MODE_OFF,
};

enum codec_choice {
    CODEC_CHOICE_CODED,
    CODEC_CHOICE_OFF,        /* the option says so */
    CODEC_CHOICE_SAVING,     /* too little to save */
    CODEC_CHOICE_UNMEASURED, /* nobody knows yet how fast reads are */
    CODEC_CHOICE_SPEED,      /* reads would take longer */
};

struct codec_facts {
    enum codec_mode mode;
    uint32_t stored_permille; /* of the bytes, as codec_sample() estimates them */
    uint64_t pages;           /* that will be read together */
    uint64_t read_bandwidth;  /* of pages that are not coded, bytes/s; 0: not known */
    uint64_t coded_bandwidth; /* of pages that are, in decoded bytes/s; 0: not known */
    uint64_t decode_speed;    /* of one thread, decoded bytes/s; 0: not known */
};

enum codec_choice codec_choose(const struct codec_facts *facts);

#endif
