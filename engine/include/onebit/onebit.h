/* Runs packed 1-bit networks (.onebit files) from C; docs/c.md has examples.
 *
 * Errors. A function that can fail returns an onebit_status, or NULL, 0 or -1 where it returns something else; onebit_last_error() then says
 * what was wrong and what to do. A NULL argument is an error and never a crash, except that onebit_free, onebit_sequence_close and
 * onebit_pool_free take NULL and do nothing, as free() does. A call that fails changes nothing but its outputs. No C++ exception leaves the library.
 *
 * Threads. A model may be shared by any number of threads: computations with one model take turns, each using the model's threads;
 * everything that only reads (sizes, labels, vocabulary, description) runs at the same time. A sequence belongs to one thread at a time; different
 * sequences of one model may be used by different threads. Models that share a pool take turns, too. After fork() a child must load its models anew.
 *
 * Sizes of buffers are counted in elements, not in bytes.
 *
 * ABI. Structures begin with their size, so that fields may be added; values of enumerations and the meaning of functions stay as they are
 * within the version that the library's soname names. */
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
    ONEBIT_INVALID_ARGUMENT = 1, /* NULL, out of range, a buffer of a wrong size */
    ONEBIT_UNREADABLE = 2,       /* the file is missing, a folder, or cannot be read */
    ONEBIT_INVALID_FILE = 3,     /* damaged, foreign, of another version, or more than memory_cap_bytes allows */
    ONEBIT_WRONG_KIND = 4,       /* a batch for a model of tokens, or a sequence of a model of arrays */
    ONEBIT_CONTEXT_FULL = 5,     /* a sequence has no room for the tokens */
    ONEBIT_OUT_OF_MEMORY = 6,    /* the system gives no more memory, or no more threads */
    ONEBIT_INTERNAL = 7,         /* an error in this library */
    ONEBIT_INTERRUPTED = 8       /* the options' interrupt ended the computation */
} onebit_status;

typedef enum onebit_kind {
    ONEBIT_KIND_NONE = 0,   /* of no model: NULL */
    ONEBIT_KIND_ARRAYS = 1, /* runs batches of arrays, such as images: onebit_run_pixels, onebit_run_floats */
    ONEBIT_KIND_TOKENS = 2  /* runs sequences of tokens, such as text: onebit_sequence_open */
} onebit_kind;

typedef enum onebit_precision {
    ONEBIT_INT8 = 0,   /* inputs of binary layers quantised to 8 bits, exact integer sums: fast */
    ONEBIT_FLOAT32 = 1 /* as training computes */
} onebit_precision;

/* A packed model, loaded. */
typedef struct onebit_model onebit_model;

/* The tokens of one text, with what the model remembers of them. */
typedef struct onebit_sequence onebit_sequence;

/* Threads that models share. */
typedef struct onebit_pool onebit_pool;

/* How a model is loaded. Fill it with onebit_options_init, then change what you want. */
typedef struct onebit_options {
    size_t size;               /* of this structure in bytes; set by onebit_options_init */
    int32_t precision;         /* an onebit_precision; default ONEBIT_INT8 */
    int32_t threads;           /* 1 to 256; default 0: one for each core that this process may use */
    const char* isa;           /* the instruction set, one of onebit_isas(); default NULL: the environment variable ONEBIT_ISA, else the best */
    uint64_t memory_cap_bytes; /* refuse a model that needs more in all, texts beyond their first token apart; default 0: 4 GiB */
    int32_t pin_threads;       /* 1: each worker thread stays on a processor of its own; default 0 */
    /* Asked about every 50 ms while the model computes, or waits for its turn, by the thread that called: what is not 0 ends the call with
     * ONEBIT_INTERRUPTED, and the model and its sequences can be used again. It must not compute with the same model or pool, nor leave by
     * longjmp or an exception. Use it for a deadline, or for a flag that another thread or a signal handler sets. Default NULL: a call ends when it
     * is done, which nothing bounds but the file's sizes. Loading does not ask. */
    int32_t (*interrupt)(void* interrupt_data);
    void* interrupt_data; /* given to interrupt; default NULL */
    onebit_pool* pool;    /* the model computes with its threads, and has none of its own; threads and pin_threads stay 0; default NULL */
} onebit_options;

/* The library's version, such as "0.1.0". */
ONEBIT_API const char* onebit_version(void);

/* The instruction sets that this CPU can run, the best first, separated by ", ". Valid until the process ends. */
ONEBIT_API const char* onebit_isas(void);

/* What the last call of this thread that failed says of its failure, in English; "" where none has failed. Valid until the next call of this
 * thread that fails. */
ONEBIT_API const char* onebit_last_error(void);

/* The name of a status, such as "ONEBIT_OK"; "unknown" for a number that is none. */
ONEBIT_API const char* onebit_status_name(int status);

/* Fill the options with their defaults.
 *   options  where to write
 *   size     sizeof(onebit_options), as your compiler knows it
 * Errors: ONEBIT_INVALID_ARGUMENT for NULL, or a size smaller than the structure ever was. */
ONEBIT_API onebit_status onebit_options_init(onebit_options* options, size_t size);

/* Start threads that several models share: give the pool to each in its options. Computations of these models take turns, in the order in which
 * they were asked for, and give what they would give with as many threads of their own.
 *   threads      1 to 256, the calling thread included; 0: one for each core that this process may use
 *   pin_threads  1: each worker thread stays on a processor of its own; else 0
 *   pool         where to put the pool, NULL where it fails; free it with onebit_pool_free
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_OUT_OF_MEMORY. */
ONEBIT_API onebit_status onebit_pool_create(int32_t threads, int32_t pin_threads, onebit_pool** pool);

/* Free a pool; it must not be given to onebit_load any more. Its threads end with the last model that was loaded with it. NULL does nothing. */
ONEBIT_API void onebit_pool_free(onebit_pool* pool);

/* Load a .onebit file. All of it is checked; it may come from anywhere. It is only read while this function runs, and must not be changed
 * meanwhile: replace a file by renaming a new one over it.
 *   path     of the file
 *   options  NULL for the defaults
 *   model    where to put the model, NULL where it fails; free it with onebit_free
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_UNREADABLE, ONEBIT_INVALID_FILE, ONEBIT_OUT_OF_MEMORY. */
ONEBIT_API onebit_status onebit_load(const char* path, const onebit_options* options, onebit_model** model);

/* As onebit_load, from memory.
 *   data  the content of a .onebit file, at any alignment; not needed any more when this function returns
 *   size  in bytes */
ONEBIT_API onebit_status onebit_load_memory(const void* data, size_t size, const onebit_options* options, onebit_model** model);

/* Free a model; its sequences stay valid until they are closed. Strings that the model owns are gone. NULL does nothing. */
ONEBIT_API void onebit_free(onebit_model* model);

/* The model as JSON, owned by the model: "kind" ("arrays" or "tokens"), "task" (what the file says: kind, labels or vocabulary, and more),
 * "input_shape", "output_shape" (without the batch axis; of a token for tokens), "context" and "vocabulary_size" (of tokens), "precision",
 * "threads", "isa", and "memory_bytes" after loading. NULL for NULL. */
ONEBIT_API const char* onebit_describe(const onebit_model* model);

/* What the model runs on; ONEBIT_KIND_NONE for NULL. */
ONEBIT_API onebit_kind onebit_model_kind(const onebit_model* model);

/* Elements of one example: height * width * channels of an image. 0 for a model of tokens, and for NULL. */
ONEBIT_API size_t onebit_input_size(const onebit_model* model);

/* Elements of the result for one example, or of the logits after a token. 0 for NULL. */
ONEBIT_API size_t onebit_output_size(const onebit_model* model);

/* The size of an axis of the input: 0, 1, 2 are height, width and channels of an image. 0 beyond the last axis, for tokens, and for NULL. */
ONEBIT_API size_t onebit_input_axis(const onebit_model* model, size_t axis);

/* The most tokens of a sequence. 0 for a model of arrays, and for NULL. */
ONEBIT_API size_t onebit_context(const onebit_model* model);

/* Bytes that the model holds now: weights in the engine's layout, activations, and what its sequences remember. 0 for NULL. Waits for a
 * computation of tokens that is under way. */
ONEBIT_API size_t onebit_memory_bytes(const onebit_model* model);

/* How many labels the model has; 0 where it classifies nothing, and for NULL. */
ONEBIT_API size_t onebit_label_count(const onebit_model* model);

/* The label of an output, UTF-8, owned by the model. NULL where there is none. It is what the file says: before it reaches a terminal its control
   characters have to be replaced (examples/c/classify.c does). */
ONEBIT_API const char* onebit_label(const onebit_model* model, size_t index);

/* Compute a batch of images.
 *   pixels       0 to 255 each, (count, height, width, channels), rows from top to bottom, channels last; the image size must be the model's
 *   pixels_size  must be count * onebit_input_size(model)
 *   count        how many examples; 0 does nothing, with any buffers
 *   out          the outputs (logits of a classifier), (count, onebit_output_size(model))
 *   out_size     at least count * onebit_output_size(model)
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_WRONG_KIND, ONEBIT_OUT_OF_MEMORY, ONEBIT_INTERRUPTED. */
ONEBIT_API onebit_status onebit_run_pixels(onebit_model* model, const uint8_t* pixels, size_t pixels_size, size_t count, float* out, size_t out_size);

/* As onebit_run_pixels, with floats; an image's are pixel / 255. */
ONEBIT_API onebit_status onebit_run_floats(onebit_model* model, const float* batch, size_t batch_size, size_t count, float* out, size_t out_size);

/* How many tokens the vocabulary has; 0 where there is none, and for NULL. */
ONEBIT_API size_t onebit_vocabulary_size(const onebit_model* model);

/* A token's piece as it stands in the vocabulary, UTF-8, owned by the model. NULL where there is none. */
ONEBIT_API const char* onebit_token_text(const onebit_model* model, int32_t token);

/* The bytes that a token adds to a text: those of all its tokens, one after the other, are the text. With a vocabulary of words, that is the piece
 * without its ##, or with a space before it. A character may be spread over several tokens.
 *   size  where to put how many bytes they are; they may hold a 0
 * Owned by the model. NULL where there is none. */
ONEBIT_API const char* onebit_token_bytes(const onebit_model* model, int32_t token, size_t* size);

/* The token whose vocabulary piece this is, such as "[SEP]", which stands before and between texts; -1 where there is none. */
ONEBIT_API int32_t onebit_token_id(const onebit_model* model, const char* text);

/* Cut a text into tokens, as Python's Tokenizer and Hugging Face tokenizers do. No [SEP] is put before or after it.
 *   text         UTF-8; for what is not UTF-8 stands U+FFFD. It may hold characters of the code 0
 *   text_size    of the text in bytes
 *   tokens       where to put the tokens; NULL to learn only how many they are
 *   tokens_size  room for so many tokens; text_size is enough for UTF-8, and 3 * text_size for any bytes
 *   count        where to put how many tokens the text has, also where there is too little room for them
 * Errors: ONEBIT_INVALID_ARGUMENT, also for a model without a vocabulary; ONEBIT_OUT_OF_MEMORY. */
ONEBIT_API onebit_status onebit_encode(const onebit_model* model, const char* text, size_t text_size, int32_t* tokens, size_t tokens_size,
                                       size_t* count);

/* The text of tokens, as Python's Tokenizer gives it: UTF-8, with U+FFFD for characters that are not complete. With a vocabulary of words, one
 * space stands between words, and none before most punctuation.
 *   tokens     0 to the vocabulary's size - 1 each
 *   count      how many tokens
 *   text       where to put the text, without a 0 at its end; NULL to learn only its size
 *   text_size  room for so many bytes
 *   size       where to put how many bytes the text has, also where there is too little room for them
 * Errors: ONEBIT_INVALID_ARGUMENT, also for a model without a vocabulary; ONEBIT_OUT_OF_MEMORY. */
ONEBIT_API onebit_status onebit_decode(const onebit_model* model, const int32_t* tokens, size_t count, char* text, size_t text_size, size_t* size);

/* Open an empty sequence.
 *   sequence  where to put it, NULL where it fails; close it with onebit_sequence_close
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_WRONG_KIND, ONEBIT_OUT_OF_MEMORY. */
ONEBIT_API onebit_status onebit_sequence_open(onebit_model* model, onebit_sequence** sequence);

/* Close a sequence; what the model remembers of it is freed. NULL does nothing. */
ONEBIT_API void onebit_sequence_close(onebit_sequence* sequence);

/* How many tokens the sequence has, those that onebit_generate_next made included. 0 for NULL. Waits for a computation of the model that is
 * under way, as opening and closing do. */
ONEBIT_API size_t onebit_sequence_length(const onebit_sequence* sequence);

/* Append tokens, all in one pass.
 *   tokens       0 to the vocabulary's size - 1 each; a text begins with onebit_token_id(model, "[SEP]")
 *   count        how many; 0 does nothing
 *   logits       where to put the logits of what follows the last token, (onebit_output_size(model)); NULL where they are not wanted
 *   logits_size  at least onebit_output_size(model), where logits is not NULL
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_CONTEXT_FULL, ONEBIT_OUT_OF_MEMORY, ONEBIT_INTERRUPTED. */
ONEBIT_API onebit_status onebit_sequence_feed(onebit_sequence* sequence, const int32_t* tokens, size_t count, float* logits, size_t logits_size);

/* Forget the tokens from `length` on. To write on beyond the context, cut to 0 and feed the newer half of the text again. Where tokens are
 * forgotten, at least one must be fed before the next is generated.
 * Errors: ONEBIT_INVALID_ARGUMENT where the sequence is shorter. */
ONEBIT_API onebit_status onebit_sequence_cut(onebit_sequence* sequence, size_t length);

/* Choose the token that follows and append it. At least one token must have been fed. [PAD] and [UNK] are never chosen; [SEP] says that the text
 * ends. A sequence may take one generated token more than the context; the next call is then ONEBIT_CONTEXT_FULL.
 *   temperature  divides the logits: 0 takes the most probable token (greedy), higher ones leave more to chance
 *   top_k        only the k most probable tokens; 0 for all
 *   seed         of chance: new sequences with the same tokens, arguments and calls give the same tokens; not used by temperature 0
 *   token        where to put the token
 * Errors: ONEBIT_INVALID_ARGUMENT, ONEBIT_CONTEXT_FULL, ONEBIT_OUT_OF_MEMORY, ONEBIT_INTERRUPTED, ONEBIT_INVALID_FILE where the model gives no
 * numbers. */
ONEBIT_API onebit_status onebit_generate_next(onebit_sequence* sequence, double temperature, int32_t top_k, uint64_t seed, int32_t* token);

#ifdef __cplusplus
}
#endif

#endif
