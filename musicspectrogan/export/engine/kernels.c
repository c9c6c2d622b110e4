/* The one loop that is too slow in JavaScript: a convolution, four numbers at a time.
 *
 * kernels.wasm is what this builds (clang and lld 14):
 *
 *   clang --target=wasm32 -O3 -msimd128 -nostdlib -Wl,--no-entry -Wl,--export=convolve \
 *     -Wl,--strip-all -Wl,-z,stack-size=4096 -o kernels.wasm kernels.c
 */

#include <wasm_simd128.h>

typedef v128_t four;

/* Positions and vectors of channels that are computed together: as many sums as registers hold. */
#define POSITIONS 4
#define VECTORS 2

static inline __attribute__((always_inline)) void tile(
    int positions, int vectors, const float *input, int input_row, int step, int kernel_rows,
    int run, const float *weights, const float *bias, float *output, int output_step, float slope,
    int accumulate)
{
    four sums[POSITIONS][VECTORS];
    for (int p = 0; p < positions; p++)
        for (int v = 0; v < vectors; v++) {
            sums[p][v] = wasm_v128_load(bias + 4 * v);
            if (accumulate)
                sums[p][v] =
                    wasm_f32x4_add(sums[p][v], wasm_v128_load(output + p * output_step + 4 * v));
        }
    for (int row = 0; row < kernel_rows; row++) {
        const float *place = input + row * input_row;
        for (int k = 0; k < run; k++, weights += 4 * vectors) {
            four w[VECTORS];
            for (int v = 0; v < vectors; v++)
                w[v] = wasm_v128_load(weights + 4 * v);
            for (int p = 0; p < positions; p++) {
                four x = wasm_v128_load32_splat(place + p * step + k);
                for (int v = 0; v < vectors; v++)
                    sums[p][v] = wasm_f32x4_add(sums[p][v], wasm_f32x4_mul(x, w[v]));
            }
        }
    }
    four factor = wasm_f32x4_splat(slope);
    for (int p = 0; p < positions; p++)
        for (int v = 0; v < vectors; v++)
            wasm_v128_store(output + p * output_step + 4 * v,
                            wasm_f32x4_pmax(sums[p][v], wasm_f32x4_mul(sums[p][v], factor)));
}

/* output[r][c][:] = leaky(bias + sum of weights * input[r : r + kernel_rows][c : …][:])
 *
 * Features are stored by row, column and channel. So the numbers below one row of the kernel are
 * consecutive in memory: `run`, its columns times the channels of the input.
 *
 *   input_row, step            numbers from one row of the input to the next, and from one column
 *   weights                    [vectors of VECTORS * 4 outputs][kernel_rows][run][outputs]
 *   output_row, output_step    as those of the input
 *   channels                   of the output, a multiple of 4
 *   slope                      of LeakyReLU, from 0 (ReLU) to 1 (none)
 *   accumulate                 add to what the output holds
 */
void convolve(const float *input, int input_row, int step, int kernel_rows, int run,
              const float *weights, const float *bias, float *output, int output_row,
              int output_step, int rows, int columns, int channels, float slope, int accumulate)
{
    for (int channel = 0; channel < channels; channel += 4 * VECTORS) {
        int vectors = channels - channel < 4 * VECTORS ? 1 : VECTORS;
        for (int row = 0; row < rows; row++) {
            const float *in = input + row * input_row;
            float *out = output + row * output_row + channel;
            int column = 0;
#define TILE(positions, vectors)                                                                   \
    tile(positions, vectors, in + column * step, input_row, step, kernel_rows, run, weights,       \
         bias + channel, out + column * output_step, output_step, slope, accumulate)
            if (vectors == VECTORS) {
                for (; column + POSITIONS <= columns; column += POSITIONS)
                    TILE(POSITIONS, VECTORS);
                for (; column < columns; column++)
                    TILE(1, VECTORS);
            } else {
                for (; column + POSITIONS <= columns; column += POSITIONS)
                    TILE(POSITIONS, 1);
                for (; column < columns; column++)
                    TILE(1, 1);
            }
#undef TILE
        }
        weights += kernel_rows * run * 4 * vectors;
    }
}
