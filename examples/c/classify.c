/* Classifies one image: classify MODEL PIXELS.raw
 * PIXELS.raw holds height * width * channels bytes, rows from top to bottom, channels last, in the model's own size. */
#include <math.h>
#include <onebit/onebit.h>
#include <stdio.h>
#include <stdlib.h>

/* Reads `size` bytes. NULL if the file has another size or there is no memory. */
static unsigned char* read_pixels(const char* path, size_t size) {
    FILE* file = fopen(path, "rb");
    unsigned char* pixels = malloc(size);
    int fits = file != NULL && pixels != NULL && fread(pixels, 1, size, file) == size && fgetc(file) == EOF;
    if (file != NULL) fclose(file);
    if (fits) return pixels;
    free(pixels);
    return NULL;
}

/* Prints a text from a file. It replaces characters that control a terminal, also those of two bytes (C2 80 to C2 9F), by '?'. */
static void print_text(const char* text) {
    const unsigned char* at = (const unsigned char*)text;
    for (; *at != 0; ++at) {
        int two = at[0] == 0xC2 && at[1] >= 0x80 && at[1] <= 0x9F;
        putchar(two || *at < 0x20 || *at == 0x7F ? '?' : *at);
        at += two;
    }
    putchar('\n');
}

/* Prints the labels with their probabilities (the softmax of the logits), the most probable first. It changes the logits. */
static void print_labels(const onebit_model* model, float* logits, size_t count) {
    float largest = logits[0], sum = 0;
    size_t i, rank;
    for (i = 1; i < count; ++i) largest = logits[i] > largest ? logits[i] : largest;
    for (i = 0; i < count; ++i) sum += logits[i] = expf(logits[i] - largest);
    for (rank = 0; rank < count; ++rank) {
        size_t best = 0;
        for (i = 1; i < count; ++i) best = logits[i] > logits[best] ? i : best;
        printf("%.6f ", (double)(logits[best] / sum));
        print_text(onebit_label(model, best));
        logits[best] = -1; /* printed */
    }
}

int main(int argc, char** argv) {
    onebit_model* model = NULL;
    unsigned char* pixels = NULL;
    float* logits = NULL;
    int result = EXIT_FAILURE;

    if (argc != 3) {
        fprintf(stderr, "usage: classify MODEL PIXELS.raw\n");
        return EXIT_FAILURE;
    }
    if (onebit_load(argv[1], NULL, &model) != ONEBIT_OK) {
        fprintf(stderr, "%s\n", onebit_last_error());
        return EXIT_FAILURE;
    }
    if (onebit_label_count(model) == 0) {
        fprintf(stderr, "[%s] is not a classifier\n", argv[1]);
        goto end;
    }
    pixels = read_pixels(argv[2], onebit_input_size(model));
    logits = malloc(onebit_output_size(model) * sizeof *logits);
    if (pixels == NULL || logits == NULL) {
        fprintf(stderr, "[%s] cannot be read: give a file of %lu bytes (%lu x %lu pixels of %lu channels)\n", argv[2],
                (unsigned long)onebit_input_size(model), (unsigned long)onebit_input_axis(model, 0), (unsigned long)onebit_input_axis(model, 1),
                (unsigned long)onebit_input_axis(model, 2));
        goto end;
    }
    if (onebit_run_pixels(model, pixels, onebit_input_size(model), 1, logits, onebit_output_size(model)) != ONEBIT_OK) {
        fprintf(stderr, "%s\n", onebit_last_error());
        goto end;
    }
    print_labels(model, logits, onebit_label_count(model));
    result = EXIT_SUCCESS;
end:
    free(logits);
    free(pixels);
    onebit_free(model);
    return result;
}
