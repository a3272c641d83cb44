/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces: more than fit in the first array, what is refused, what a write or an allocation that fails leaves behind, and that all of it
 * is there again after the process died.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "store_life.h"

#define NAMESPACES 40

static varve_namespace *
open_namespace(int number)
{
    varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    varve_namespace *ns = NULL;
    char name[32];

    (void)snprintf(name, sizeof(name), "name %d", number);
    attributes.element_type = VARVE_ELEMENT_FP8;
    attributes.page_bytes_hint = (uint64_t)number;
    assert_int_equal(varve_namespace_open(life.store, name, &attributes, &ns, &life.err), VARVE_OK);
    return ns;
}

/* Whether page 0 of chain `number` is there, after it was put where `put` says so. */
static bool
has_page(varve_namespace *ns, int number, bool put)
{
    uint8_t byte = (uint8_t)number;
    struct iovec iov = {&byte, 1};
    varve_page page = {.id = life_page_id(77, 0), .iov = &iov, .iov_count = 1};

    if (put)
        assert_int_equal(varve_put_batch(life.store, ns, NULL, &page, 1, 0, &life.err), VARVE_OK);
    byte = 0;
    assert_int_equal(varve_get_batch(life.store, ns, &page, 1, &life.err), VARVE_OK);
    assert_true(page.status == VARVE_MISS || (page.status == VARVE_OK && byte == (uint8_t)number));
    return page.status == VARVE_OK;
}

/* The same page id in each is a page of its own. */
static void
test_many(void **state)
{
    varve_namespace *seen[NAMESPACES];

    (void)state;
    for (int i = 0; i < NAMESPACES; i++) {
        seen[i] = open_namespace(i);
        for (int k = 0; k < i; k++)
            assert_true(seen[k] != seen[i]);
        assert_ptr_equal(open_namespace(i), seen[i]);
        assert_false(has_page(seen[i], i, false));
        assert_true(has_page(seen[i], i, true));
    }
    assert_int_equal(varve_namespace_clear(life.store, seen[7], &life.err), VARVE_OK);
    for (int lives = 0; lives < 2; lives++) { /* replayed, and then from runs */
        life_kill();
        life_must_open();
        assert_int_equal(life_stat("namespaces"), NAMESPACES + 1);
        for (int i = 0; i < NAMESPACES; i++) {
            varve_namespace *ns = open_namespace(i);

            assert_int_equal(has_page(ns, i, false), i != 7);
            assert_int_equal(ns->page_bytes_hint, i);
            assert_int_equal(ns->element_type, VARVE_ELEMENT_FP8);
        }
    }
    assert_int_equal(life_pages_right(), LIFE_ALL);
}

static void
test_arguments(void **state)
{
    static char longest[VARVE_NAMESPACE_NAME_MAX + 2];
    varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    varve_namespace *ns = NULL;
    varve_namespace foreign = {.store = NULL};

    (void)state;
    memset(longest, 'x', VARVE_NAMESPACE_NAME_MAX + 1);
    assert_int_equal(varve_namespace_open(NULL, "a", NULL, &ns, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_namespace_open(life.store, NULL, NULL, &ns, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_namespace_open(life.store, "a", NULL, NULL, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_namespace_open(life.store, "", NULL, &ns, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_namespace_open(life.store, longest, NULL, &ns, &life.err), VARVE_E_ARG);
    attributes.element_type = VARVE_ELEMENT_FP8 + 1;
    assert_int_equal(varve_namespace_open(life.store, "a", &attributes, &ns, &life.err), VARVE_E_ARG);
    attributes.element_type = VARVE_ELEMENT_BF16;
    attributes.struct_size = 4;
    assert_int_equal(varve_namespace_open(life.store, "a", &attributes, &ns, &life.err), VARVE_E_ARG);
    assert_non_null(strstr(life.err.message, "VARVE_NAMESPACE_ATTRIBUTES_INIT"));
    assert_null(ns);
    longest[VARVE_NAMESPACE_NAME_MAX] = '\0';
    attributes.struct_size = 8; /* of a program that knows only the first fields */
    attributes.page_bytes_hint = 99;
    assert_int_equal(varve_namespace_open(life.store, longest, &attributes, &ns, &life.err), VARVE_OK);
    assert_int_equal(ns->element_type, VARVE_ELEMENT_BF16);
    assert_int_equal(ns->page_bytes_hint, 0);
    assert_int_equal(varve_namespace_clear(NULL, ns, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_namespace_clear(life.store, NULL, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_namespace_clear(life.store, &foreign, &life.err), VARVE_E_ARG);
    assert_int_equal(life_stat("namespaces"), 2);
}

/* The first write of the manifest that fails ends all changes; what is there stays. */
static void
test_write_fails(void **state)
{
    varve_namespace *ns = NULL;

    (void)state;
    store_fault(life.disk, SIM_OP_WRITE, "*.manifest", EIO, 0, 1);
    assert_int_equal(varve_namespace_clear(life.store, life.ns, &life.err), VARVE_E_IO);
    assert_int_equal(varve_namespace_clear(life.store, life.ns, &life.err), VARVE_E_READONLY);
    assert_int_equal(varve_namespace_open(life.store, "a", NULL, &ns, &life.err), VARVE_E_READONLY);
    assert_null(ns);
    assert_int_equal(life_pages_right(), LIFE_ALL);
    sim_disk_faults_clear(life.disk);
    life_kill();
    life_must_open();
    assert_int_equal(life_pages_right(), LIFE_ALL);
    assert_int_equal(life_stat("namespaces"), 1);
}

/* Without memory a namespace is made by a later call; eight are in the first array. */
static void
test_out_of_memory(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        char name[32];
        bool failed = true;

        (void)snprintf(name, sizeof(name), "name %d", i);
        for (uint64_t nth = 0; failed; nth++) {
            varve_namespace *ns = NULL;
            uint64_t hit = life.disk->faults_hit;
            int rc;

            store_fault(life.disk, SIM_OP_ALLOC, NULL, ENOMEM, nth, 1);
            rc = varve_namespace_open(life.store, name, NULL, &ns, &life.err);
            failed = life.disk->faults_hit > hit;
            sim_disk_faults_clear(life.disk);
            assert_true(rc == VARVE_OK || rc == VARVE_E_NOMEM || rc == VARVE_E_READONLY);
            assert_int_equal(ns != NULL, rc == VARVE_OK);
            if (rc == VARVE_E_READONLY) { /* an edit that got into the manifest's state, and not into its file */
                life_kill();
                life_must_open();
            }
        }
        assert_true(has_page(open_namespace(i), i, true));
    }
    assert_int_equal(life_stat("namespaces"), 21);
    assert_int_equal(life_pages_right(), LIFE_ALL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_arguments, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_write_fails, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_out_of_memory, life_setup, life_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
