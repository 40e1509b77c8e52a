/* SPDX-License-Identifier: MIT */
/* base/linalg.c - see linalg.h. */
#include "base/linalg.h"

#include "base/cpu.h"
#include "base/par.h"

#include <cblas.h>
#include <lapacke.h>
#include <stdbool.h>
#include <string.h>

void nib_linalg_init(void)
{
    openblas_set_num_threads(1);
}

const char *nib_linalg_kernel(void)
{
    return openblas_get_corename();
}

const char *nib_linalg_better(const char *chosen, unsigned cpu)
{
    static const char *const with_avx2[] = {"Haswell",  "Zen",        "Excavator",
                                            "SkylakeX", "Cooperlake", "SapphireRapids"};
    if (cpu & NIB_CPU_AVX512) return strcmp(chosen, "SkylakeX") ? "SkylakeX" : NULL;
    if (!(cpu & NIB_CPU_AVX2)) return NULL;
    for (size_t i = 0; i < sizeof with_avx2 / sizeof *with_avx2; i++)
        if (!strcmp(chosen, with_avx2[i])) return NULL;
    return "Haswell";
}

const char *nib_linalg_wanted(unsigned cpu)
{
    const bool one_of_many = strstr(openblas_get_config(), "DYNAMIC_ARCH");
    return one_of_many ? nib_linalg_better(nib_linalg_kernel(), cpu) : NULL;
}

void nib_gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                 size_t ldb, float *c, size_t ldc, int add)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f,
                a, (blasint)lda, b, (blasint)ldb, add ? 1.0f : 0.0f, c, (blasint)ldc);
}

void nib_dgemm_nt(size_t m, size_t n, size_t k, const double *a, size_t lda, const double *b,
                  size_t ldb, double *c, size_t ldc, int add)
{
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)m, (blasint)n, (blasint)k, 1.0, a,
                (blasint)lda, b, (blasint)ldb, add ? 1.0 : 0.0, c, (blasint)ldc);
}

void nib_gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                 size_t ldb, float *c, size_t ldc, int add)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f,
                a, (blasint)lda, b, (blasint)ldb, add ? 1.0f : 0.0f, c, (blasint)ldc);
}

void nib_gemm_tn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                 size_t ldb, float *c, size_t ldc, int add)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f,
                a, (blasint)lda, b, (blasint)ldb, add ? 1.0f : 0.0f, c, (blasint)ldc);
}

void nib_solve_factored(size_t m, size_t n, const float *r, float *b)
{
    const CBLAS_TRANSPOSE order[] = {CblasNoTrans, CblasTrans};
    for (int i = 0; i < 2; i++)
        cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, order[i], CblasNonUnit, (blasint)m,
                    (blasint)n, 1.0f, r, (blasint)n, b, (blasint)n);
}

/* ---- Cholesky ---- */

/* Tile sizes of the factorization: fixed, so that the result does not depend on the threads. */
enum { PANEL = 192, TILE = 192 };

typedef struct {
    double *a; /* [n][n], upper triangle in use */
    size_t n;
    size_t k, kb; /* first row and height of the panel */
} factoring;

static double *at(const factoring *f, size_t i, size_t j)
{
    return f->a + i * f->n + j;
}

/* Columns of the panel right of its diagonal block: R_kk^-T A. */
static nib_code solve_panel(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const factoring *f = arg;
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, (blasint)f->kb,
                (blasint)(end - begin), 1.0, at(f, f->k, f->k), (blasint)f->n,
                at(f, f->k, f->k + f->kb + begin), (blasint)f->n);
    return NIB_OK;
}

/* Rows of the rest from the diagonal on: A_ij -= R_ki' R_kj. */
static nib_code update_rest(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const factoring *f = arg;
    const size_t row = f->k + f->kb + begin, height = end - begin, right = row + height;
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, (blasint)height, (blasint)f->kb, -1.0,
                at(f, f->k, row), (blasint)f->n, 1.0, at(f, row, row), (blasint)f->n);
    if (right < f->n)
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)height,
                    (blasint)(f->n - right), (blasint)f->kb, -1.0, at(f, f->k, row), (blasint)f->n,
                    at(f, f->k, right), (blasint)f->n, 1.0, at(f, row, right), (blasint)f->n);
    return NIB_OK;
}

nib_code nib_cholesky(double *a, size_t n, int threads, nib_err *err)
{
    factoring f = {.a = a, .n = n};
    nib_code rc = NIB_OK;
    for (; f.k < n && !rc; f.k += f.kb) {
        f.kb = n - f.k < PANEL ? n - f.k : PANEL;
        lapack_int bad = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', (lapack_int)f.kb,
                                             at(&f, f.k, f.k), (lapack_int)n);
        if (bad)
            return nib_fail(err, NIB_ENUMERIC,
                            "a matrix of order %zu is not positive definite (minor %zu)", n,
                            f.k + (size_t)bad);
        const size_t rest = n - f.k - f.kb;
        if ((rc = nib_par_for(threads, rest, TILE, solve_panel, &f, err))) break;
        rc = nib_par_for(threads, rest, TILE, update_rest, &f, err);
    }
    return rc;
}
