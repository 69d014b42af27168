/* Runs a network on inputs that the host gives by semihosting, and gives its outputs back, with the instructions of the first run. */
#include <stdint.h>

#include "net.h"

extern uint32_t _sidata, _sdata, _edata, _sbss, _ebss, _estack;
void begin(void);

static NET_INPUT_TYPE x[NET_INPUTS];
static float y[NET_OUTPUTS];

#if defined(__riscv)
static int32_t call(int32_t op, const void *argument) {
    register int32_t a0 __asm("a0") = op;
    register const void *a1 __asm("a1") = argument;
    __asm volatile(".option push\n.option norvc\nslli x0, x0, 0x1f\nebreak\nsrai x0, x0, 7\n.option pop" : "+r"(a0) : "r"(a1) : "memory");
    return a0;
}

static uint32_t now(void) {
    uint32_t n;
    __asm volatile("csrr %0, minstret" : "=r"(n)::"memory");
    return n;
}
static void start_counting(void) {}
static uint32_t since(uint32_t first) {
    return now() - first;
}

__attribute__((naked, section(".start"))) void start(void) {
    __asm volatile("la sp, _estack\nj begin");
}
#else
#define SYSTICK ((volatile uint32_t *)0xE000E010u)
static int32_t call(int32_t op, const void *argument) {
    register int32_t r0 __asm("r0") = op;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void start_counting(void) {
    SYSTICK[1] = 0xFFFFFFu;
    SYSTICK[2] = 0xFFFFFFu;
    SYSTICK[0] = 5u;
}
static uint32_t now(void) {
    return SYSTICK[2];
}
static uint32_t since(uint32_t first) {
    return (first - now()) & 0xFFFFFFu;
}

static void fault(void) {
    call(0x18, (const void *)0x20023u);
}

__attribute__((section(".start"), used)) void (*const vectors[16])(void) = {(void (*)(void))&_estack, begin, fault, fault, fault, fault, fault};
#endif

/* Two instructions a round. */
static void rounds(uint32_t n) {
#if defined(__riscv)
    __asm volatile("1: addi %0, %0, -1\nbnez %0, 1b" : "+r"(n));
#else
    __asm volatile(".syntax unified\n1: subs %0, #1\nbne 1b" : "+l"(n)::"cc");
#endif
}

static int32_t opened(const char *name, int32_t mode) {
    int32_t length = 0;
    while (name[length] != 0) ++length;
    const uintptr_t arguments[3] = {(uintptr_t)name, (uintptr_t)mode, (uintptr_t)length};
    return call(1, arguments);
}

static int32_t moved(int32_t op, int32_t file, void *data, uint32_t size) {
    const uintptr_t arguments[3] = {(uintptr_t)file, (uintptr_t)data, size};
    return call(op, arguments);
}

void begin(void) {
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
    __asm volatile("dsb\nisb");
#endif
    for (uint32_t *from = &_sidata, *to = &_sdata; to < &_edata;) *to++ = *from++;
    for (uint32_t *to = &_sbss; to < &_ebss;) *to++ = 0;
    uint32_t counts[2];
    start_counting();
    uint32_t first = now();
    rounds(1000000u);
    counts[0] = since(first);
    const int32_t in = opened("in.bin", 1), out = opened("out.bin", 5);
    for (int32_t i = 0; moved(6, in, x, sizeof x) == 0; ++i) {
        first = now();
        net_run(x, y);
        if (i == 0) {
            counts[1] = since(first);
            moved(5, out, counts, sizeof counts);
        }
        moved(5, out, y, sizeof y);
    }
    call(0x18, (const void *)0x20026u);
    for (;;) {
    }
}
