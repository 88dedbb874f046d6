/*
 * compute/opencl/matmul_form.cl - what all variants of the product take: comes before
 * them. The form is an argument and not an option of the build, so that a variant is one
 * program, and compiled once.
 */
#define TRANS_A 1 /* A is stored (k,m) */
#define TRANS_B 2 /* B is stored (n,k) */
#define ADD     4 /* to the product is added what is in add, with ldc; may be c */
#define BIAS    8 /* and a row of n */

#define MATMUL_PARAMETERS                                                             \
    OUT(float, c), IN(float, a), IN(float, b), IN(float, add), IN(float, bias),       \
        const uint m, const uint n, const uint k, const uint lda, const uint ldb,     \
        const uint ldc, const uint form

/* What the product is added to. */
#define START(row, column)                                                            \
    ((form & ADD ? AT(add)[(row) * (ulong)ldc + (column)] : 0.0f) +                 \
     (form & BIAS ? AT(bias)[column] : 0.0f))

/* An element as it is multiplied: with BF16 rounded to that (bf16.cl). */
#ifdef BF16
#    define OPERAND(x)     round_bf16(x)
#    define OPERAND_VEC(x) round_bf16_vec(x)
#else
#    define OPERAND(x)     (x)
#    define OPERAND_VEC(x) (x)
#endif
