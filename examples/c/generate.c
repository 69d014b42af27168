/* Continues a text: generate MODEL COUNT [TEXT]
 * Prints at most COUNT tokens after the text, the most probable one each time. Without TEXT it begins a new text. */
#include <errno.h>
#include <onebit/onebit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Feeds [SEP], which begins every text, and the text. If the text is longer than the model's context, it feeds only the end. */
static int feed(const onebit_model* model, onebit_sequence* sequence, int32_t separator, const char* text) {
    size_t size = strlen(text), context = onebit_context(model), count = 0, first;
    size_t room = 3 * size; /* enough for what is not UTF-8 too */
    int32_t* tokens = malloc((room + 1) * sizeof *tokens);
    int result = EXIT_FAILURE;
    if (tokens == NULL) {
        fprintf(stderr, "[generate] out of memory\n");
        return EXIT_FAILURE;
    }
    tokens[0] = separator;
    if (onebit_encode(model, text, size, tokens + 1, room, &count) != ONEBIT_OK) {
        failed();
    } else {
        ++count;
        first = count > context ? count - context : 0;
        result = onebit_sequence_feed(sequence, tokens + first, count - first, NULL, 0) == ONEBIT_OK ? EXIT_SUCCESS : failed();
    }
    free(tokens);
    return result;
}

/* Makes `count` tokens, or fewer if the text or the context ends, and prints each one immediately. */
static int write_on(const onebit_model* model, onebit_sequence* sequence, int32_t separator, long count) {
    for (; count > 0; --count) {
        int32_t token;
        size_t size = 0;
        const char* bytes;
        onebit_status status = onebit_generate_next(sequence, 0.0, 0, 0, &token);
        if (status == ONEBIT_CONTEXT_FULL || (status == ONEBIT_OK && token == separator)) break;
        if (status != ONEBIT_OK) return failed();
        bytes = onebit_token_bytes(model, token, &size);
        if (bytes != NULL) fwrite(bytes, 1, size, stdout);
        fflush(stdout);
    }
    printf("\n");
    return EXIT_SUCCESS;
}

int main(int argc, char** argv) {
    onebit_model* model = NULL;
    onebit_sequence* sequence = NULL;
    int32_t separator;
    long count = argc < 3 || argc > 4 ? -1 : read_number(argv[2], 1000000);
    int result = EXIT_FAILURE;

    if (count < 1) {
        fprintf(stderr, "usage: generate MODEL COUNT [TEXT], with COUNT from 1 to 1000000\n");
        return EXIT_FAILURE;
    }
    if (onebit_load(argv[1], NULL, &model) != ONEBIT_OK) return failed();
    separator = onebit_token_id(model, "[SEP]");
    if (separator < 0 || onebit_sequence_open(model, &sequence) != ONEBIT_OK) {
        failed();
    } else if (feed(model, sequence, separator, argc > 3 ? argv[3] : "") == EXIT_SUCCESS) {
        result = write_on(model, sequence, separator, count);
    }
    onebit_sequence_close(sequence);
    onebit_free(model);
    return result;
}
