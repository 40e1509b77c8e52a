/* SPDX-License-Identifier: MIT */
/* base/linalg.h - dense linear algebra. The only header whose source sees BLAS and LAPACKE.
 *
 * Matrices are row-major with a leading dimension (elements from row to row). Every call runs on
 * the calling thread alone: parallelism is ours, over rows or tensors (base/par.h). */
#ifndef NIB_BASE_LINALG_H
#define NIB_BASE_LINALG_H

#include "base/err.h"

#include <stddef.h>

/* Call once, before any thread starts: keeps BLAS on the calling thread. */
void nib_linalg_init(void);

/* C[m][n] = A[m][k] * B[n][k]^T (+ C when `add`): activations times a weight as it is stored. */
void nib_gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                 size_t ldb, float *c, size_t ldc, int add);

/* The same in f64. */
void nib_dgemm_nt(size_t m, size_t n, size_t k, const double *a, size_t lda, const double *b,
                  size_t ldb, double *c, size_t ldc, int add);

/* C[m][n] = A[m][k] * B[k][n] (+ C when `add`). */
void nib_gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                 size_t ldb, float *c, size_t ldc, int add);

/* C[m][n] = A[k][m]^T * B[k][n] (+ C when `add`). */
void nib_gemm_tn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                 size_t ldb, float *c, size_t ldc, int add);

/* Cholesky factor in place: the upper triangle of a[n][n] holds that of a symmetric positive
 * definite matrix A on entry and R, A = R' R, on return; below the diagonal nothing is read, and
 * what is there on return is undefined. Parallel over fixed tiles: the same bits for any number of
 * threads. NIB_ENUMERIC when A is not positive definite; the array is then destroyed. */
NIB_MUST_USE nib_code nib_cholesky(double *a, size_t n, int threads, nib_err *err);

/* X (R' R) = B for X[m][n], which takes the place of B; R[n][n] upper triangular, below the
 * diagonal nothing is read. */
void nib_solve_factored(size_t m, size_t n, const float *r, float *b);

/* Name of the BLAS kernels in use: "Haswell", "SkylakeX". */
const char *nib_linalg_kernel(void);

/* OpenBLAS goes by a list of processor models. One that came after its release gets the oldest
 * kernels (Prescott), and of two that suit a model it may take the slower: on Sapphire Rapids,
 * 0.3.21 is 4.4 times as slow as with SkylakeX. The name of kernels for a processor with these
 * features (NIB_CPU_*) that are fast everywhere, where `chosen` may not be; NULL: it is as good. */
const char *nib_linalg_better(const char *chosen, unsigned cpu);
/* The same for those in use; NULL also where the library has no others. They are changed by
 * OPENBLAS_CORETYPE in the environment that the library is loaded in. */
const char *nib_linalg_wanted(unsigned cpu);

#endif
