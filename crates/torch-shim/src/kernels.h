// Kernels over ranges of rows, compiled once per instruction set; `fused.cpp` picks one table and runs it on all threads.
#pragma once

namespace pshim {

// A convolution of kernel 3 and padding 1 over channels-last pictures.
struct Conv3Shape {
  long height, width, inputs, outputs, stride;
  long rows() const { return (height - 1) / stride + 1; }
  long columns() const { return (width - 1) / stride + 1; }
};

struct Kernels {
  // y = gelu(x), in its tanh form.
  void (*gelu)(const float *x, float *y, long n);
  // dx = g gelu'(x).
  void (*gelu_backward)(const float *g, const float *x, float *dx, long n);
  // The same of bfloat16, here and back rounded to the nearest, ties to even.
  void (*gelu_bf16)(const unsigned short *x, unsigned short *y, long n);
  void (*gelu_backward_bf16)(const unsigned short *g, const unsigned short *x, unsigned short *dx, long n);
  // One sample: y = (x - mean) rstd (1 + scale) + shift, x [T, D]; keeps mean and rstd per token.
  void (*adaln)(const float *x, const float *shift, const float *scale, float *y, float *mean, float *rstd, long tokens, long width,
                float eps);
  // One sample: dx [T, D], dshift [D], dscale [D].
  void (*adaln_backward)(const float *g, const float *x, const float *scale, const float *mean, const float *rstd, float *dx,
                         float *dshift, float *dscale, long tokens, long width);
  // One sample: y = x + gate h.
  void (*gated)(const float *x, const float *gate, const float *h, float *y, long tokens, long width);
  // One sample: dh = g gate, dgate = sum over tokens of g h.
  void (*gated_backward)(const float *g, const float *gate, const float *h, float *dh, float *dgate, long tokens, long width);
  // Whole groups of channels of one picture, pixels as rows `row` apart: y = f(n gain + offset), n = (x - mean) rstd by group,
  // f either SiLU or nothing; keeps mean and rstd per group. `scratch` holds 4 width floats, here and backward.
  void (*group_norm)(const float *x, const float *gain, const float *offset, float *y, float *mean, float *rstd, long pixels, long row,
                     long width, long groups, float eps, bool silu, float *scratch);
  // The same rows: dx, and dgain, doffset [width] of this picture.
  void (*group_norm_backward)(const float *g, const float *x, const float *gain, const float *offset, const float *mean, const float *rstd,
                              float *dx, float *dgain, float *doffset, long pixels, long row, long width, long groups, bool silu,
                              float *scratch);
  // Rows of bfloat16, `row` apart, to f32, one behind the other, and back.
  void (*widen)(const unsigned short *x, long row, float *y, long rows, long width);
  void (*narrow)(const float *x, unsigned short *y, long row, long rows, long width);
  // One head: out = softmax(q k^T scale) v. `scratch` holds attention_scratch floats.
  void (*attention)(const float *q, const float *k, const float *v, long row, float *out, long out_row, long tokens, long head,
                    float scale, float *scratch);
  // One head: gradients of q, k, v, in rows `row` apart like q, k and v themselves.
  void (*attention_backward)(const float *g, long g_row, const float *q, const float *k, const float *v, long row, float *dq, float *dk,
                             float *dv, long tokens, long head, float scale, float *scratch);
  // Floats of scratch for either.
  long (*attention_scratch)(long tokens, long head);
  // One picture x [height, width, inputs] and the slopes g of rows [from, to) of what became of it, [rows, columns, outputs]: adds to
  // dw [outputs, 3, 3, inputs] in row `tap` of the kernel, for outputs [first, last). `inputs` is a multiple of `lanes`.
  void (*conv3_weights)(const float *g, const float *x, float *dw, const Conv3Shape &conv, long tap, long from, long to, long first, long last);
  // Outputs that `conv3_weights` takes at a time.
  long conv3_outputs;
  // What Winograd's way makes of pictures, slopes and weights of a `Conv3Shape` of stride 1 are sixteen matrices `step` floats apart, one a
  // place of a patch, over the two by two pixels of all pictures one after another, its rows [from, to) here. Channels are multiples of
  // `lanes`, `nothing` holds zeros for all of them.
  //
  // u [16, rows, inputs] of outputs [from, to), written from row `row` on, in panels of `panel` columns; `turned`: of the kernel turned around.
  void (*winograd_weights)(const float *w, float *u, long step, long inputs, long panel, long from, long to, long row, long rows, bool turned);
  // dw [outputs, 3, 3, inputs] of the sum of `parts` of slopes of u, [16, outputs, inputs] each, `apart` floats apart.
  void (*winograd_slopes_of_weights)(const float *u, long step, long parts, long apart, float *dw, long inputs, long outputs);
  // v [16, to - from, inputs] in panels of `panel` columns, of pictures x.
  void (*winograd_pictures)(const float *x, float *v, long step, const Conv3Shape &conv, long from, long to, long panel, const float *nothing);
  // z [16, to - from, last - first], slopes of m for slopes g of outputs [first, last).
  void (*winograd_slopes)(const float *g, float *z, long step, const Conv3Shape &conv, long from, long to, long first, long last,
                          const float *nothing);
  // Outputs [first, last) of y for m [16, to - from, last - first], plus the bias if there is one.
  void (*winograd_out)(const float *m, long step, const float *bias, float *y, const Conv3Shape &conv, long from, long to, long first, long last);
  // The right side b [depth, columns] of products in the order in which `multiply` reads it, from w, whose element (p, j) lies at
  // w[j row + p step], one of the two being 1; columns are filled up to whole vectors. Behind `panel` columns the next begin `panel` depth
  // floats on.
  void (*panels)(const float *w, long row, long step, float *out, long columns, long depth);
  // c [rows, columns] = start + a b, no start where it is null; element (r, p) of a at a[r a_row + p a_step]. A number's sum does not depend
  // on how rows and columns are shared out, nor on which of the factors is a.
  void (*multiply)(const float *a, long a_row, long a_step, const float *b, const float *start, long start_row, float *c, long c_row, long rows,
                   long columns, long depth);
  // to [columns, rows] = from [rows, columns], transposed.
  void (*turn)(const float *from, long from_row, float *to, long to_row, long rows, long columns);
  // For every two rows of x [2 pairs, 2 half], a11 a12 above a21 a22, the sums s [4, pairs, half] of Winograd's form of Strassen's product:
  // s1 = a21 + a22, s2 = s1 - a11, s3 = a11 - a21, s4 = a12 - s2.
  void (*strassen_rows)(const float *x, float *s, long pairs, long half);
  // To u [pairs, half] and to the rows of c adds those of v and `moved` [half].
  void (*strassen_join)(const float *v, const float *moved, float *u, float *c, long c_row, long pairs, long half);
  // Sum of n numbers.
  float (*sum)(const float *x, long n);
  // Of every row of x and logits [rows, width], sum of x l - softplus(l); `slope`, where it is not null, is x - logistic(l).
  void (*bernoulli)(const float *x, const float *logits, float *slope, float *sums, long rows, long width);
  // Of every row of mean and logvar, [rows, width] with rows `mean_row` and `log_row` apart, half the sum of m^2 + e^l - 1 - l; `variance`
  // [rows, width] is e^l, infinite above EXPONENT_BOUND.
  void (*gaussian_kl)(const float *mean, long mean_row, const float *logvar, long log_row, float *variance, float *sums, long rows, long width);
  // z = m + s of the same rows, `spread` s = e^(l / 2) eps; z, spread and eps [rows, width].
  void (*gaussian_at)(const float *mean, long mean_row, const float *logvar, long log_row, const float *eps, float *spread, float *z, long rows,
                      long width);
  long panel;
  // Floats of a vector.
  long lanes;
};

// Where the left side of a product in bfloat16 has its numbers: rows of eight `block` apart, rows of one `row`, pairs of neighbours in depth
// `step`, all in numbers.
struct Left {
  long row, step, block;
  // Of rows that lie number by number, so far apart.
  static Left rows(long apart) { return {apart, 2, 8 * apart}; }
  // As `lefts` leaves so many rows.
  static Left turned(long rows) { return {2, 16, (rows + 1) / 2 * 16}; }
};

// Products of bfloat16 numbers, summed in f32, by an instruction of the processor that takes them in pairs: number 2 p of the depth and the
// next lie side by side. A sum does not depend on how rows and columns are shared out.
struct Bf16Kernels {
  // The right side b [depth, columns] in the order in which `multiply` reads it, `(depth + 1) / 2` pairs by whole vectors of columns, from w,
  // whose element (p, j) lies at w[j row + p step], one of the two being 1.
  void (*panels)(const float *w, long row, long step, unsigned short *out, long columns, long depth);
  // The same, the right side being rows of numbers.
  void (*panels_of_rows)(const unsigned short *x, long row, unsigned short *out, long columns, long rows);
  // The transpose of rows of numbers as a left side, by eights of columns.
  void (*lefts)(const unsigned short *g, long row, unsigned short *out, long columns, long rows);
  // c [rows, columns] = start + a b, no start where it is null; the depth is even, or a has room and zeros for one more.
  void (*multiply)(const unsigned short *a, const Left &left, const unsigned short *b, const float *start, long start_row, unsigned short *c,
                   long c_row, long rows, long columns, long depth);
  void (*multiply_to_floats)(const unsigned short *a, const Left &left, const unsigned short *b, const float *start, long start_row, float *c,
                             long c_row, long rows, long columns, long depth);
  // Sums over the rows of which `lefts` were made.
  void (*sums)(const unsigned short *lefts, float *out, long rows, long columns);
  // Winograd's matrices as those of `Kernels`: v of pictures, as left sides of products; v and z of pictures and slopes as right and left
  // sides of products over tiles; y of products in f32.
  void (*winograd_pictures)(const unsigned short *x, unsigned short *v, long step, const Conv3Shape &conv, long from, long to, long panel,
                            const unsigned short *nothing);
  void (*winograd_pictures_in_pairs)(const unsigned short *x, unsigned short *v, long step, const Conv3Shape &conv, long from, long to,
                                     const unsigned short *nothing);
  void (*winograd_slopes_in_pairs)(const unsigned short *g, unsigned short *z, long step, const Conv3Shape &conv, long from, long to, long first,
                                   long last, const unsigned short *nothing);
  void (*winograd_out)(const float *m, long step, const float *bias, unsigned short *y, const Conv3Shape &conv, long from, long to, long first,
                       long last);
  long panel, lanes, block;
};

extern const Bf16Kernels kernels_bf16;

// Where exponents are clamped. Kept from the compiler of the kernels: gcc, knowing it, also computes every number times the exponential of the
// bound, and where that product is below 1e-38 an Intel processor takes many times as long.
extern const float EXPONENT_BOUND;

extern const Kernels kernels_plain, kernels_avx2, kernels_avx512;
} // namespace pshim
