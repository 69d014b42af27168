/* A 1-bit network, written by `onebit export c`. Generated: write it anew rather than change it. */
#ifndef @NAME@_H
#define @NAME@_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define @NAME@_INPUTS @inputs@ /* @input_shape@ */
#define @NAME@_OUTPUTS @outputs@ /* @output_shape@ */
#define @NAME@_RAM_BYTES @ram@ /* static; the stack comes to it */
#define @NAME@_PRODUCTS @products@ /* multiplications by weights, a run */

/* Computes the network. The inputs are @given@. Not for two threads at a time: all its memory is static. */
void @name@_run(@argument@, float *outputs);

#ifdef __cplusplus
}
#endif

#endif
