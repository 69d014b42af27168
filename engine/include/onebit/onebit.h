/* Runs packed 1-bit networks (.onebit files) from C; docs/c.md has examples.
 *
 * Errors. A function that can fail returns an onebit_status, or NULL, 0 or -1 if it returns something else. onebit_last_error() then says
 * what was wrong and what to do. A NULL argument is an error and never a crash. onebit_free, onebit_sequence_close and onebit_pool_free
 * accept NULL and do nothing, like free(). A call that fails changes only its outputs. No C++ exception leaves the library.
 *
 * Threads. Any number of threads may share a model. Computations with one model take turns, and each uses the model's threads.
 * Functions that only read (sizes, labels, vocabulary, description) run at the same time. A sequence belongs to one thread at a time; different
 * threads may use different sequences of one model. Models that share a pool take turns too. A child of fork() has none of the
 * models' threads: it computes with its own alone, or loads its models again.
 *
 * Sizes of buffers are counted in elements, not in bytes.
 *
 * ABI. Structures begin with their size, so that fields may be added. Values of enumerations and the meaning of functions do not change
 * within one version of the library's soname. */
#ifndef ONEBIT_ONEBIT_H
#define ONEBIT_ONEBIT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define ONEBIT_API __attribute__((visibility("default")))
#else
#define ONEBIT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum onebit_status {
    ONEBIT_OK = 0,
    ONEBIT_INVALID_ARGUMENT = 1, /* NULL, out of range, or a buffer of the wrong size */
    ONEBIT_UNREADABLE = 2,       /* the file is missing, is a folder, or cannot be read */
    ONEBIT_INVALID_FILE = 3,     /* the file is damaged, foreign, of another version, or needs more than memory_cap_bytes */
    ONEBIT_WRONG_KIND = 4,       /* a batch for a model of tokens, or a sequence for a model of arrays */
    ONEBIT_CONTEXT_FULL = 5,     /* the tokens do not fit in the sequence's context */
    ONEBIT_OUT_OF_MEMORY = 6,    /* the system cannot give more memory or threads */
    ONEBIT_INTERNAL = 7,         /* an error in this library */
    ONEBIT_INTERRUPTED = 8       /* the options' interrupt function ended the computation */
} onebit_status;

typedef enum onebit_kind {
    ONEBIT_KIND_NONE = 0,   /* the model is NULL */
    ONEBIT_KIND_ARRAYS = 1, /* runs batches of arrays, such as images: onebit_run_pixels, onebit_run_floats */
    ONEBIT_KIND_TOKENS = 2  /* runs sequences of tokens, such as text: onebit_sequence_open */
} onebit_kind;

typedef enum onebit_precision {
    ONEBIT_INT8 = 0,   /* inputs of binary layers quantised to 8 bits, exact integer sums: fast */
    ONEBIT_FLOAT32 = 1 /* as training computes */
} onebit_precision;

/* A packed model, loaded. */
typedef struct onebit_model onebit_model;

/* The tokens of one text, with their KV cache. */
typedef struct onebit_sequence onebit_sequence;

/* Threads that models share. */
typedef struct onebit_pool onebit_pool;

/* Options for loading a model. Fill the structure with onebit_options_init, then change fields. */
typedef struct onebit_options {
    size_t size;               /* of this structure in bytes; set by onebit_options_init */
    int32_t precision;         /* an onebit_precision; default ONEBIT_INT8 */
    int32_t threads;           /* 1 to 256; default 0: one per core that this process may use */
    const char* isa;           /* the instruction set, one of onebit_isas(); default NULL: the environment variable ONEBIT_ISA, else the best */
    uint64_t memory_cap_bytes; /* refuse a model that needs more memory, not counting texts beyond their first token; default 0: 4 GiB */
    int32_t pin_threads;       /* 1: each worker thread stays on its own processor; default 0 */
    /* The calling thread calls this about every 50 ms while the model computes or waits for its turn. A result other than 0 ends the call with
     * ONEBIT_INTERRUPTED; the model and its sequences can be used again. The function must not compute with the same model or pool, and must not
     * leave by longjmp or an exception. Use it for a deadline, or for a flag that another thread or a signal handler sets. Default NULL: a call
     * runs to its end, however long the file's sizes make it. Loading does not call it. */
    int32_t (*interrupt)(void* interrupt_data);
    void* interrupt_data; /* the argument of interrupt; default NULL */
    onebit_pool* pool;    /* the model uses this pool's threads instead of its own; threads and pin_threads stay 0; default NULL */
} onebit_options;

/* The library's version, such as "0.1.0". */
ONEBIT_API const char* onebit_version(void);

/* The instruction sets that this CPU can run, the best first, separated by ", ". Valid until the process ends. */
ONEBIT_API const char* onebit_isas(void);

/* The message of the last call in this thread that failed, in English; "" if none has failed. Valid until the next call in this thread
 * that fails. */
ONEBIT_API const char* onebit_last_error(void);

/* The name of a status, such as "ONEBIT_OK"; "unknown" for any other number. */
ONEBIT_API const char* onebit_status_name(int status);

/* Fill the options with their defaults.
 *   options  the structure to fill
 *   size     sizeof(onebit_options) in your program
 * Errors: ONEBIT_INVALID_ARGUMENT for NULL, or for a size below that of the first version of the structure. */
ONEBIT_API onebit_status onebit_options_init(onebit_options* options, size_t size);

/* Start threads that several models share. Give the pool to each model in its options. Computations of these models take turns, in the order
 * of the calls. Their results are the same as with as many threads of their own.
 *   threads      1 to 256, including the calling thread; 0: one per core that this process may use
 *   pin_threads  1: each worker thread stays on its own processor; otherwise 0
 *   pool         receives the pool, or NULL on failure; free it with onebit_pool_free
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_OUT_OF_MEMORY. */
ONEBIT_API onebit_status onebit_pool_create(int32_t threads, int32_t pin_threads, onebit_pool** pool);

/* Free a pool. It must not be given to onebit_load any more. Its threads end with the last model that was loaded with it. NULL does nothing. */
ONEBIT_API void onebit_pool_free(onebit_pool* pool);

/* Load a .onebit file. The whole file is checked, so it may come from an untrusted source. It is read only while this function runs, and must
 * not change meanwhile: to replace a file, rename a new one over it.
 *   path     the path of the file
 *   options  NULL for the defaults
 *   model    receives the model, or NULL on failure; free it with onebit_free
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_UNREADABLE, ONEBIT_INVALID_FILE, ONEBIT_OUT_OF_MEMORY. */
ONEBIT_API onebit_status onebit_load(const char* path, const onebit_options* options, onebit_model** model);

/* As onebit_load, from memory.
 *   data  the content of a .onebit file, at any alignment; it may be freed when this function returns
 *   size  its size in bytes */
ONEBIT_API onebit_status onebit_load_memory(const void* data, size_t size, const onebit_options* options, onebit_model** model);

/* Free a model and the strings that it owns. Its sequences stay valid until they are closed. NULL does nothing. */
ONEBIT_API void onebit_free(onebit_model* model);

/* A description of the model as JSON, owned by the model: "kind" ("arrays" or "tokens"), "task" (from the file: kind, labels or vocabulary, and
 * more), "input_shape", "output_shape" (without the batch axis; per token for tokens), "context" and "vocabulary_size" (for tokens), "precision",
 * "threads", "isa", and "memory_bytes" after loading. A model of several inputs or outputs, or of integers, has "inputs" and "outputs" with
 * names and shapes: onebit_run_floats takes an example's inputs one after the other, and gives its outputs likewise. NULL for NULL. */
ONEBIT_API const char* onebit_describe(const onebit_model* model);

/* The kind of the model's input; ONEBIT_KIND_NONE for NULL. */
ONEBIT_API onebit_kind onebit_model_kind(const onebit_model* model);

/* The number of elements of one example: height * width * channels for an image. 0 for a model of tokens, and for NULL. */
ONEBIT_API size_t onebit_input_size(const onebit_model* model);

/* The number of elements of the result for one example, or of the logits after a token. 0 for NULL. */
ONEBIT_API size_t onebit_output_size(const onebit_model* model);

/* The size of an axis of the input. Axes 0, 1, 2 are height, width and channels of an image. 0 beyond the last axis, for tokens, and for NULL. */
ONEBIT_API size_t onebit_input_axis(const onebit_model* model, size_t axis);

/* The most tokens of a sequence. 0 for a model of arrays, and for NULL. */
ONEBIT_API size_t onebit_context(const onebit_model* model);

/* The bytes of memory that the model uses now: weights in the engine's layouts, activations, and KV caches. 0 for NULL. It waits for a
 * running computation of tokens. */
ONEBIT_API size_t onebit_memory_bytes(const onebit_model* model);

/* The number of labels; 0 if the model is not a classifier, and for NULL. */
ONEBIT_API size_t onebit_label_count(const onebit_model* model);

/* The label of an output, UTF-8, owned by the model. NULL if there is none. The text comes from the file: replace its control characters before
   you print it to a terminal, as examples/c/classify.c does. */
ONEBIT_API const char* onebit_label(const onebit_model* model, size_t index);

/* Compute a batch of images.
 *   pixels       0 to 255 each, (count, height, width, channels), rows from top to bottom, channels last, in the model's image size
 *   pixels_size  must be count * onebit_input_size(model)
 *   count        the number of examples; 0 does nothing, with any buffers
 *   out          the outputs (logits of a classifier), (count, onebit_output_size(model))
 *   out_size     at least count * onebit_output_size(model)
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_WRONG_KIND, ONEBIT_OUT_OF_MEMORY, ONEBIT_INTERRUPTED. */
ONEBIT_API onebit_status onebit_run_pixels(onebit_model* model, const uint8_t* pixels, size_t pixels_size, size_t count, float* out, size_t out_size);

/* As onebit_run_pixels, with floats. The floats of an image are pixel / 255. */
ONEBIT_API onebit_status onebit_run_floats(onebit_model* model, const float* batch, size_t batch_size, size_t count, float* out, size_t out_size);

/* The number of tokens in the vocabulary; 0 without a vocabulary, and for NULL. */
ONEBIT_API size_t onebit_vocabulary_size(const onebit_model* model);

/* A token's piece in the vocabulary, UTF-8, owned by the model. NULL if there is none. */
ONEBIT_API const char* onebit_token_text(const onebit_model* model, int32_t token);

/* The bytes that a token adds to a text. The bytes of all tokens, one after the other, are the text. With a vocabulary of words, they are the piece
 * without its ##, or with a space before it. A character may be spread over several tokens.
 *   size  receives the number of bytes; the bytes may contain a 0
 * Owned by the model. NULL if there is none. */
ONEBIT_API const char* onebit_token_bytes(const onebit_model* model, int32_t token, size_t* size);

/* The token with this piece, such as "[SEP]", which comes before and between texts; -1 if there is none. */
ONEBIT_API int32_t onebit_token_id(const onebit_model* model, const char* text);

/* Split a text into tokens, as Python's Tokenizer and Hugging Face tokenizers do. It does not add [SEP] before or after the text.
 *   text         UTF-8; U+FFFD replaces what is not UTF-8. It may contain characters with the code 0
 *   text_size    the size of the text in bytes
 *   tokens       receives the tokens; NULL to get only their number
 *   tokens_size  the most tokens that fit; text_size is enough for UTF-8, and 3 * text_size for any bytes
 *   count        receives the number of tokens, also if they do not fit
 * Errors: ONEBIT_INVALID_ARGUMENT, also for a model without a vocabulary; ONEBIT_OUT_OF_MEMORY. */
ONEBIT_API onebit_status onebit_encode(const onebit_model* model, const char* text, size_t text_size, int32_t* tokens, size_t tokens_size,
                                       size_t* count);

/* The text of tokens, as Python's Tokenizer gives it: UTF-8, with U+FFFD for incomplete characters. With a vocabulary of words, there is one
 * space between words, and no space before most punctuation.
 *   tokens     0 to the vocabulary's size - 1 each
 *   count      the number of tokens
 *   text       receives the text, without a 0 at its end; NULL to get only its size
 *   text_size  the most bytes that fit
 *   size       receives the size of the text in bytes, also if it does not fit
 * Errors: ONEBIT_INVALID_ARGUMENT, also for a model without a vocabulary; ONEBIT_OUT_OF_MEMORY. */
ONEBIT_API onebit_status onebit_decode(const onebit_model* model, const int32_t* tokens, size_t count, char* text, size_t text_size, size_t* size);

/* Open an empty sequence.
 *   sequence  receives the sequence, or NULL on failure; close it with onebit_sequence_close
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_WRONG_KIND, ONEBIT_OUT_OF_MEMORY. */
ONEBIT_API onebit_status onebit_sequence_open(onebit_model* model, onebit_sequence** sequence);

/* Close a sequence and free its KV cache. NULL does nothing. */
ONEBIT_API void onebit_sequence_close(onebit_sequence* sequence);

/* The number of tokens in the sequence, including those of onebit_generate_next. 0 for NULL. It waits for a running computation of the model,
 * as opening and closing do. */
ONEBIT_API size_t onebit_sequence_length(const onebit_sequence* sequence);

/* Append tokens, all in one pass.
 *   tokens       0 to the vocabulary's size - 1 each; a text begins with onebit_token_id(model, "[SEP]")
 *   count        the number of tokens; 0 does nothing
 *   logits       receives the logits of the token after the last one, (onebit_output_size(model)); NULL if you do not need them
 *   logits_size  at least onebit_output_size(model), unless logits is NULL
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_CONTEXT_FULL, ONEBIT_OUT_OF_MEMORY, ONEBIT_INTERRUPTED. */
ONEBIT_API onebit_status onebit_sequence_feed(onebit_sequence* sequence, const int32_t* tokens, size_t count, float* logits, size_t logits_size);

/* Forget the tokens from `length` on. To generate beyond the context, cut to 0 and feed the newer half of the text again. After a cut, feed at
 * least one token before you generate the next.
 * Errors: ONEBIT_INVALID_ARGUMENT if the sequence is shorter. */
ONEBIT_API onebit_status onebit_sequence_cut(onebit_sequence* sequence, size_t length);

/* Choose the next token and append it. Feed at least one token first. [PAD] and [UNK] are never chosen. [SEP] means that the text ends. A
 * sequence may take one generated token more than the context; the next call then returns ONEBIT_CONTEXT_FULL.
 *   temperature  divides the logits: 0 takes the most probable token (greedy), higher values are more random
 *   top_k        chooses among the k most probable tokens; 0 for all
 *   seed         the random seed: new sequences with the same tokens, arguments and calls give the same tokens; not used with temperature 0
 *   token        receives the token
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_CONTEXT_FULL, ONEBIT_OUT_OF_MEMORY, ONEBIT_INTERRUPTED, ONEBIT_INVALID_FILE if the logits
 * are not numbers. */
ONEBIT_API onebit_status onebit_generate_next(onebit_sequence* sequence, double temperature, int32_t top_k, uint64_t seed, int32_t* token);

#ifdef __cplusplus
}
#endif

#endif
