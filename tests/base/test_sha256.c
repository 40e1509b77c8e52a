/* SPDX-License-Identifier: MIT */
/* SHA-256 against the examples of FIPS 180-4, and the two ways to compute it against each other. */
#include "base/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void examples(void **state)
{
    (void)state;
    static const struct {
        const char *text, *digest;
    } v[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrl"
         "m"
         "nopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        uint8_t digest[NIB_SHA256_BYTES];
        char text[NIB_SHA256_DIGITS + 1];
        nib_sha256_of(digest, v[i].text, strlen(v[i].text));
        nib_sha256_text(text, digest);
        assert_string_equal(text, v[i].digest);
    }
}

/* The example of a million letters, in pieces that fit no block. */
static void a_million(void **state)
{
    (void)state;
    nib_sha256 s;
    uint8_t digest[NIB_SHA256_BYTES];
    char text[NIB_SHA256_DIGITS + 1], piece[997];
    memset(piece, 'a', sizeof piece);
    nib_sha256_begin(&s);
    for (size_t left = 1000000; left;) {
        size_t n = left % 997 ? left % 997 : 997;
        nib_sha256_add(&s, piece, n);
        left -= n;
    }
    nib_sha256_end(&s, digest);
    nib_sha256_text(text, digest);
    assert_string_equal(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void both_ways(void **state)
{
    (void)state;
    uint8_t data[64 * 7];
    uint32_t a[8], b[8];
    if (!nib_sha256_native()) skip();
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 37 + i / 64);
    for (size_t n = 0; n <= 7; n++) {
        for (int i = 0; i < 8; i++) a[i] = b[i] = (uint32_t)i * 0x9E3779B9u;
        nib_sha256_plain(a, data, n);
        nib_sha256_native()(b, data, n);
        assert_memory_equal(a, b, sizeof a);
    }
}

/* In any two pieces it is the same. */
static void in_pieces(void **state)
{
    (void)state;
    uint8_t data[200], whole[NIB_SHA256_BYTES], parts[NIB_SHA256_BYTES];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)i;
    for (size_t n = 0; n <= sizeof data; n += 13) {
        nib_sha256_of(whole, data, n);
        for (size_t k = 0; k <= n; k++) {
            nib_sha256 s;
            nib_sha256_begin(&s);
            nib_sha256_add(&s, data, k);
            nib_sha256_add(&s, data + k, n - k);
            nib_sha256_end(&s, parts);
            assert_memory_equal(whole, parts, sizeof whole);
        }
    }
}

/* Share by share as at once, whatever the shares; what is beyond its end is not asked for. */
static void a_file_in_shares(void **state)
{
    (void)state;
    enum { N = (3 << 20) + 5 };
    static const uint64_t ends[] = {0, 1, 63, 1 << 20, (2 << 20) + 7, (2 << 20) + 7, N, UINT64_MAX};
    static uint8_t data[N];
    char path[] = "/tmp/nibble-sha256-XXXXXX";
    uint8_t whole[NIB_SHA256_BYTES], digest[NIB_SHA256_BYTES];
    nib_err err = {0};
    nib_sha256 s;
    const int fd = mkstemp(path);
    for (size_t i = 0; i < N; i++) data[i] = (uint8_t)(i * i >> 3);
    assert_int_equal(write(fd, data, N), N);
    close(fd);
    nib_sha256_of(whole, data, N);
    nib_sha256_begin(&s);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        assert_int_equal(nib_sha256_add_file(&s, path, ends[i], &err), NIB_OK);
        assert_int_equal(s.n, ends[i] < N ? ends[i] : N);
    }
    nib_sha256_end(&s, digest);
    assert_memory_equal(digest, whole, sizeof whole);
    assert_int_equal(nib_sha256_file(digest, path, &err), NIB_OK);
    assert_memory_equal(digest, whole, sizeof whole);
    unlink(path);
    nib_sha256_begin(&s);
    assert_int_equal(nib_sha256_add_file(&s, path, 1, &err), NIB_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples),         cmocka_unit_test(a_million),
        cmocka_unit_test(both_ways),        cmocka_unit_test(in_pieces),
        cmocka_unit_test(a_file_in_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
