/* A plugin of QEMU that counts the instructions which a program for another processor executes, and prints their number to the log
 * (qemu-aarch64 -plugin ./libqemu_counter.so -d plugin PROGRAM). Distributions ship no header for plugins, so the functions that are used are
 * declared here, as QEMU's documentation gives them ("QEMU TCG Plugins"). ONEBIT_QEMU_PLUGIN_API is the version of that interface: 1 up to
 * QEMU 8.2, 2 or more from 9.0 on. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifndef ONEBIT_QEMU_PLUGIN_API
#define ONEBIT_QEMU_PLUGIN_API 1
#endif

typedef uint64_t plugin_id;
struct block;
typedef void (*translated)(plugin_id id, struct block* block);
typedef void (*executed)(unsigned int processor, void* data);
typedef void (*ended)(plugin_id id, void* data);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, translated function);
void qemu_plugin_register_vcpu_tb_exec_cb(struct block* block, executed function, int flags, void* data);
void qemu_plugin_register_atexit_cb(plugin_id id, ended function, void* data);
size_t qemu_plugin_tb_n_insns(const struct block* block);
void qemu_plugin_outs(const char* text);

int qemu_plugin_version = ONEBIT_QEMU_PLUGIN_API;

/* The programs that are counted have one thread. */
static uint64_t instructions;

static void count(unsigned int processor, void* data) {
    (void)processor;
    instructions += (uint64_t)(uintptr_t)data;
}

static void translate(plugin_id id, struct block* block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, count, 0, (void*)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void print(plugin_id id, void* data) {
    char text[64];
    (void)id;
    (void)data;
    snprintf(text, sizeof text, "instructions: %llu\n", (unsigned long long)instructions);
    qemu_plugin_outs(text);
}

int qemu_plugin_install(plugin_id id, const void* info, int argc, char** argv) {
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, print, NULL);
    return 0;
}
