// The handles of the C API, and the model behind them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "array_model.h"
#include "onebit/onebit.h"
#include "options.h"
#include "thread_pool.h"
#include "token_model.h"
#include "tokenizer.h"
#include "vocabulary.h"

namespace onebit::c_api {

// A model, shared by its handle and its sequences.
struct Loaded {
    // One of the two is set.
    std::unique_ptr<onebit::ArrayModel> engine;
    std::unique_ptr<onebit::TokenModel> decoder;
    std::vector<std::string> labels;
    onebit::Vocabulary vocabulary;
    std::unique_ptr<onebit::Tokenizer> tokenizer;  // of the vocabulary, if there is one
    std::string description;
    onebit::Ask ask;  // whether to continue

    std::int64_t outputs() const { return decoder ? decoder->outputs() : onebit::elements(engine->output_shape()); }
};

// Makes the model of a file's content. Throws std::invalid_argument if that is not one, and what else guarded() knows.
std::shared_ptr<Loaded> build(const std::byte* data, std::size_t size, const onebit::Options& settings, const onebit_options& options);

// The model of a handle, which may be null: then it throws.
const Loaded& of(const onebit_model* model);

}  // namespace onebit::c_api

struct onebit_pool {
    std::shared_ptr<onebit::ThreadPool> threads;
};

struct onebit_model {
    std::shared_ptr<onebit::c_api::Loaded> loaded;
};

struct onebit_sequence {
    std::shared_ptr<onebit::c_api::Loaded> model;
    int number = -1;
    std::vector<float> logits;    // that follow the last token in the decoder
    bool ready = false;           // whether there are such logits
    std::int32_t pending = -1;    // a generated token that has not been fed yet
    std::uint64_t generated = 0;  // how many random numbers were used

    ~onebit_sequence() {
        if (number >= 0) model->decoder->close(number);
    }
};
