/* Writes on from some tokens: generate MODEL COUNT [TOKEN ...]
 * Prints a line with the ids of the new tokens, the most probable one each time, and behind it their text. Without a token the text begins as any. */
#include <errno.h>
#include <onebit/onebit.h>
#include <stdio.h>
#include <stdlib.h>

/* A number from 0 to `most`; -1 for anything else. */
static long read_number(const char* text, long most) {
    char* end = NULL;
    long number;
    errno = 0;
    number = strtol(text, &end, 10);
    return errno != 0 || end == text || *end != '\0' || number < 0 || number > most ? -1 : number;
}

static int failed(void) {
    fprintf(stderr, "%s\n", onebit_last_error());
    return EXIT_FAILURE;
}

/* Feeds [SEP], with which a text begins, and the tokens of the command line. */
static int feed(onebit_sequence* sequence, int32_t separator, char** texts, int count) {
    int i;
    if (onebit_sequence_feed(sequence, &separator, 1, NULL, 0) != ONEBIT_OK) return failed();
    for (i = 0; i < count; ++i) {
        int32_t token = (int32_t)read_number(texts[i], INT32_MAX);
        if (onebit_sequence_feed(sequence, &token, 1, NULL, 0) != ONEBIT_OK) return failed();
    }
    return EXIT_SUCCESS;
}

/* Makes `count` tokens, or fewer where the text or the context ends, and prints them. */
static int write_on(const onebit_model* model, onebit_sequence* sequence, int32_t separator, int32_t* tokens, long count) {
    long made = 0, i;
    while (made < count) {
        onebit_status status = onebit_generate_next(sequence, 0.0, 0, 0, &tokens[made]);
        if (status == ONEBIT_CONTEXT_FULL || (status == ONEBIT_OK && tokens[made] == separator)) break;
        if (status != ONEBIT_OK) return failed();
        ++made;
    }
    for (i = 0; i < made; ++i) printf("%s%ld", i == 0 ? "" : " ", (long)tokens[i]);
    printf("\n");
    for (i = 0; i < made; ++i) {
        size_t size = 0;
        const char* bytes = onebit_token_bytes(model, tokens[i], &size);
        if (bytes != NULL) fwrite(bytes, 1, size, stdout);
    }
    printf("\n");
    return EXIT_SUCCESS;
}

int main(int argc, char** argv) {
    onebit_model* model = NULL;
    onebit_sequence* sequence = NULL;
    int32_t separator;
    int32_t* tokens = NULL;
    long count = argc < 3 ? -1 : read_number(argv[2], 1000000);
    int result = EXIT_FAILURE;

    if (count < 1) {
        fprintf(stderr, "usage: generate MODEL COUNT [TOKEN ...], with COUNT from 1 to 1000000\n");
        return EXIT_FAILURE;
    }
    if (onebit_load(argv[1], NULL, &model) != ONEBIT_OK) return failed();
    separator = onebit_token_id(model, "[SEP]");
    tokens = malloc((size_t)count * sizeof *tokens);
    if (tokens == NULL) {
        fprintf(stderr, "[generate] out of memory\n");
    } else if (separator < 0 || onebit_sequence_open(model, &sequence) != ONEBIT_OK) {
        failed();
    } else if (feed(sequence, separator, argv + 3, argc - 3) == EXIT_SUCCESS) {
        result = write_on(model, sequence, separator, tokens, count);
    }
    free(tokens);
    onebit_sequence_close(sequence);
    onebit_free(model);
    return result;
}
