/* A 1-bit network, written by `onebit export c`. Generated: write it anew rather than change it. */
#include "@name@.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Answers are those of onebit's engine, bit for bit: every operation on floats is rounded by itself, in the order in which it stands here. */
#if defined(__FAST_MATH__)
#error "compile without -ffast-math: it changes the answers"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bits are read as words: the core has to be little-endian"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off", "no-strict-aliasing", "no-tree-loop-distribute-patterns")
#endif
#if defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#endif
#if defined(__GNUC__)
#define STEP static __attribute__((noinline)) void
#else
#define STEP static void
#endif

@memory@
@kernels@
@constants@
@statics@
@functions@
void @name@_run(@argument@, float *outputs) {
@calls@
}
