/* SPDX-License-Identifier: MIT */
/* base/linalg.c - see linalg.h. */
#include "base/linalg.h"

#include "base/par.h"

#include <cblas.h>
#include <lapacke.h>

void nib_linalg_init(void)
{
    openblas_set_num_threads(1);
}

const char *nib_linalg_kernel(void)
{
    return openblas_get_corename();
}

void nib_gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                 size_t ldb, float *c, size_t ldc, int add)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f,
                a, (blasint)lda, b, (blasint)ldb, add ? 1.0f : 0.0f, c, (blasint)ldc);
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

/* ---- the inverse's factor ---- */

/* Tile sizes of the factorization: fixed, so that the result does not depend on the threads. */
enum { PANEL = 192, TILE = 384, STRIP = 48 };

typedef struct {
    double *a; /* [n][n], lower triangle in use */
    size_t n;
    size_t k, kb; /* first column and width of the panel */
} factoring;

static double *at(const factoring *f, size_t i, size_t j)
{
    return f->a + i * f->n + j;
}

/* Rows of the panel below its diagonal block: A L_kk^-T. */
static nib_code solve_panel(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const factoring *f = arg;
    size_t row = f->k + f->kb + begin;
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit,
                (blasint)(end - begin), (blasint)f->kb, 1.0, at(f, f->k, f->k), (blasint)f->n,
                at(f, row, f->k), (blasint)f->n);
    return NIB_OK;
}

/* Tiles of rows of the rest: A_ij -= A_ik A_jk', up to the diagonal. */
static nib_code update_rest(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const factoring *f = arg;
    size_t first = f->k + f->kb, row = first + begin, width = end;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)(end - begin), (blasint)width,
                (blasint)f->kb, -1.0, at(f, row, f->k), (blasint)f->n, at(f, first, f->k),
                (blasint)f->n, 1.0, at(f, row, first), (blasint)f->n);
    return NIB_OK;
}

/* Lower Cholesky factor in place. What is lower in rows is upper in LAPACK's columns. */
static nib_code cholesky(factoring *f, int threads, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (f->k = 0; f->k < f->n && !rc; f->k += PANEL) {
        f->kb = f->n - f->k < PANEL ? f->n - f->k : PANEL;
        lapack_int bad = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', (lapack_int)f->kb,
                                             at(f, f->k, f->k), (lapack_int)f->n);
        if (bad)
            return nib_fail(err, NIB_ENUMERIC,
                            "a matrix of order %zu is not positive definite (minor %zu)", f->n,
                            f->k + (size_t)bad);
        size_t below = f->n - f->k - f->kb;
        if ((rc = nib_par_for(threads, below, PANEL, solve_panel, f, err))) break;
        rc = nib_par_for(threads, below, TILE, update_rest, f, err);
    }
    return rc;
}

/* Columns of the panel below its diagonal block: inv(L_below) A. */
static nib_code invert_strip(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const factoring *f = arg;
    size_t below = f->k + f->kb;
    cblas_dtrmm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit,
                (blasint)(f->n - below), (blasint)(end - begin), 1.0, at(f, below, below),
                (blasint)f->n, at(f, below, f->k + begin), (blasint)f->n);
    return NIB_OK;
}

/* Rows of the panel below: - A inv(L_kk). */
static nib_code invert_rows(void *arg, size_t begin, size_t end, int thread, nib_err *err)
{
    (void)thread, (void)err;
    const factoring *f = arg;
    size_t row = f->k + f->kb + begin;
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit,
                (blasint)(end - begin), (blasint)f->kb, -1.0, at(f, f->k, f->k), (blasint)f->n,
                at(f, row, f->k), (blasint)f->n);
    return NIB_OK;
}

/* Inverse of a lower triangle in place, block columns from the last to the first. */
static nib_code invert_lower(factoring *f, int threads, nib_err *err)
{
    nib_code rc = NIB_OK;
    for (size_t p = (f->n + PANEL - 1) / PANEL; p-- > 0 && !rc;) {
        f->k = p * PANEL;
        f->kb = f->n - f->k < PANEL ? f->n - f->k : PANEL;
        size_t below = f->n - f->k - f->kb;
        if (below && (rc = nib_par_for(threads, f->kb, STRIP, invert_strip, f, err))) break;
        if (below && (rc = nib_par_for(threads, below, PANEL, invert_rows, f, err))) break;
        lapack_int bad = LAPACKE_dtrtri_work(LAPACK_COL_MAJOR, 'U', 'N', (lapack_int)f->kb,
                                             at(f, f->k, f->k), (lapack_int)f->n);
        if (bad) return nib_fail(err, NIB_ENUMERIC, "a factor of order %zu is singular", f->n);
    }
    return rc;
}

/* With J the reversal of indices, J h J = L L', so h^-1 = (J L^-1 J)' (J L^-1 J), and J L^-1 J is
 * upper triangular: the caller's reversed matrix becomes U read backwards. */
nib_code nib_inverse_factor(double *reversed, size_t n, int threads, nib_err *err)
{
    factoring f = {.a = reversed, .n = n};
    nib_code rc = cholesky(&f, threads, err);
    return rc ? rc : invert_lower(&f, threads, err);
}
