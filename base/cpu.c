/* SPDX-License-Identifier: MIT */
/* base/cpu.c - see cpu.h. */
#include "base/cpu.h"

#include <stddef.h>
#include <string.h>

unsigned nib_cpu_detect(void)
{
    unsigned m = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    m |= NIB_CPU_AVX2;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return m;
    m |= NIB_CPU_AVX512;
    if (__builtin_cpu_supports("avx512vnni")) m |= NIB_CPU_VNNI;
    if (__builtin_cpu_supports("avx512bf16")) m |= NIB_CPU_BF16;
#endif
    return m;
}

nib_code nib_cpu_parse(unsigned *mask, const char *name, nib_err *err)
{
    static const struct {
        const char *name;
        unsigned mask;
    } levels[] = {
        {"c", 0},
        {"avx2", NIB_CPU_AVX2},
        {"avx512", NIB_CPU_AVX2 | NIB_CPU_AVX512},
        {"vnni", NIB_CPU_AVX2 | NIB_CPU_AVX512 | NIB_CPU_VNNI},
    };
    unsigned have = nib_cpu_detect();
    if (!strcmp(name, "native")) {
        *mask = have;
        return NIB_OK;
    }
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (strcmp(name, levels[i].name)) continue;
        if (levels[i].mask & ~have)
            return nib_fail(err, NIB_EINVAL, "--cpu: this processor has no %s (it has %s)", name,
                            nib_cpu_name(have));
        *mask = levels[i].mask;
        return NIB_OK;
    }
    return nib_fail(err, NIB_EINVAL, "--cpu: '%s' should be c, avx2, avx512, vnni or native", name);
}

const char *nib_cpu_name(unsigned mask)
{
    if (mask & NIB_CPU_AVX512) {
        if (mask & NIB_CPU_BF16) return mask & NIB_CPU_VNNI ? "avx512+vnni+bf16" : "avx512+bf16";
        return mask & NIB_CPU_VNNI ? "avx512+vnni" : "avx512";
    }
    return mask & NIB_CPU_AVX2 ? "avx2" : "c";
}
