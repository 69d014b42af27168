// The C API of texts: vocabularies, sequences of tokens, and writing.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "c_api_guard.h"
#include "c_api_model.h"
#include "decimal.h"
#include "sampling.h"

using namespace onebit::c_api;

namespace {

const onebit::Tokenizer& tokenizer_of(const Loaded& model) {
    if (!model.tokenizer) invalid("[onebit] the model has no vocabulary");
    return *model.tokenizer;
}

void check_token(const Loaded& model, std::int32_t token) {
    tokenizer_of(model);
    if (token < 0 || token >= model.vocabulary.size())
        invalid("[onebit] token " + std::to_string(token) + " is out of range: use 0 to " + std::to_string(model.vocabulary.size() - 1));
}

// Copies a result into the caller's buffer, or only its size if there is no buffer.
template <class Values, class Element>
void give(const Values& values, const char* name, Element* buffer, std::size_t room, std::size_t* size) {
    *size = values.size();
    if (buffer == nullptr) return;
    if (values.size() > room)
        invalid("[onebit] " + std::string(name) + " has room for " + std::to_string(room) + " elements: " + std::to_string(values.size()) +
                " are needed");
    std::copy(values.begin(), values.end(), buffer);
}

// Feeds the pending token and `count` more. If that fails, the sequence does not change.
void extend(onebit_sequence& sequence, const std::int32_t* tokens, std::size_t count) {
    onebit::TokenModel& decoder = *sequence.model->decoder;
    const std::int64_t before = decoder.length(sequence.number);
    const std::size_t pending = sequence.pending >= 0 ? 1 : 0;
    const auto room = static_cast<std::size_t>(decoder.context() - before);
    if (count > room || count + pending > room)
        fail(ONEBIT_CONTEXT_FULL, "[onebit] the sequence has " + std::to_string(before) + " tokens and the model's context is " +
                                      std::to_string(decoder.context()) + ": no room for " + std::to_string(count + pending) +
                                      " more; cut it to 0 and feed the newer half of the text again");
    std::vector<std::int32_t> all(sequence.pending >= 0 ? 1 : 0, sequence.pending);
    all.insert(all.end(), tokens, tokens + count);
    if (all.empty()) return;
    std::vector<float> logits(sequence.logits.size());
    decoder.extend({sequence.number}, {static_cast<std::int64_t>(all.size())}, all.data(), false, logits.data(), sequence.model->ask);
    sequence.logits.swap(logits);
    sequence.ready = true;
    sequence.pending = -1;
}

}  // namespace

size_t onebit_vocabulary_size(const onebit_model* model) {
    return guarded_or<size_t>(0, [&] { return static_cast<size_t>(of(model).vocabulary.size()); });
}

const char* onebit_token_text(const onebit_model* model, int32_t token) {
    return guarded_or<const char*>(nullptr, [&] {
        check_token(of(model), token);
        return of(model).vocabulary.piece(token).c_str();
    });
}

const char* onebit_token_bytes(const onebit_model* model, int32_t token, size_t* size) {
    return guarded_or<const char*>(nullptr, [&] {
        check_token(of(model), token);
        need(size, "size");
        const std::string& bytes = of(model).vocabulary.bytes(token);
        *size = bytes.size();
        return bytes.c_str();
    });
}

int32_t onebit_token_id(const onebit_model* model, const char* text) {
    return guarded_or<int32_t>(-1, [&] {
        const Loaded& loaded = of(model);
        need(text, "text");
        const std::int32_t id = loaded.vocabulary.id(text);
        if (id < 0) invalid("[onebit] the model's vocabulary has no '" + std::string(text).substr(0, 40) + "'");
        return id;
    });
}

onebit_status onebit_encode(const onebit_model* model, const char* text, size_t text_size, int32_t* tokens, size_t tokens_size, size_t* count) {
    if (count != nullptr) *count = 0;
    return guarded([&] {
        const Loaded& loaded = of(model);
        need(count, "count");
        if (text_size > 0) need(text, "text");
        give(tokenizer_of(loaded).encode({text, text_size}), "tokens", tokens, tokens_size, count);
    });
}

onebit_status onebit_decode(const onebit_model* model, const int32_t* tokens, size_t count, char* text, size_t text_size, size_t* size) {
    if (size != nullptr) *size = 0;
    return guarded([&] {
        const Loaded& loaded = of(model);
        need(size, "size");
        if (count > 0) need(tokens, "tokens");
        for (std::size_t i = 0; i < count; ++i) check_token(loaded, tokens[i]);
        give(tokenizer_of(loaded).decode({tokens, count}), "text", text, text_size, size);
    });
}

onebit_status onebit_sequence_open(onebit_model* model, onebit_sequence** sequence) {
    if (sequence != nullptr) *sequence = nullptr;
    return guarded([&] {
        need(model, "model");
        need(sequence, "sequence");
        if (!model->loaded->decoder)
            fail(ONEBIT_WRONG_KIND, "[onebit] the model takes batches, not tokens: use onebit_run_pixels or onebit_run_floats");
        auto opened = std::make_unique<onebit_sequence>();
        opened->model = model->loaded;
        opened->logits.resize(static_cast<std::size_t>(opened->model->outputs()));
        opened->number = opened->model->decoder->open();
        *sequence = opened.release();
    });
}

void onebit_sequence_close(onebit_sequence* sequence) {
    delete sequence;
}

size_t onebit_sequence_length(const onebit_sequence* sequence) {
    return guarded_or<size_t>(0, [&] {
        need(sequence, "sequence");
        return static_cast<size_t>(sequence->model->decoder->length(sequence->number)) + (sequence->pending >= 0 ? 1 : 0);
    });
}

onebit_status onebit_sequence_feed(onebit_sequence* sequence, const int32_t* tokens, size_t count, float* logits, size_t logits_size) {
    return guarded([&] {
        need(sequence, "sequence");
        if (count == 0) return;
        need(tokens, "tokens");
        if (logits != nullptr && logits_size < sequence->logits.size())
            invalid("[onebit] logits has room for " + std::to_string(logits_size) + " elements: the model gives " +
                    std::to_string(sequence->logits.size()));
        extend(*sequence, tokens, count);
        if (logits != nullptr) std::copy(sequence->logits.begin(), sequence->logits.end(), logits);
    });
}

onebit_status onebit_sequence_cut(onebit_sequence* sequence, size_t length) {
    return guarded([&] {
        need(sequence, "sequence");
        const size_t now = onebit_sequence_length(sequence);
        if (length > now) invalid("[onebit] a sequence of " + std::to_string(now) + " tokens cannot be cut to " + std::to_string(length));
        if (length == now) return;
        sequence->model->decoder->cut(sequence->number, static_cast<std::int64_t>(length));
        sequence->pending = -1;
        sequence->ready = false;
    });
}

onebit_status onebit_generate_next(onebit_sequence* sequence, double temperature, int32_t top_k, uint64_t seed, int32_t* token) {
    return guarded([&] {
        need(sequence, "sequence");
        need(token, "token");
        if (!(temperature >= 0) || std::isinf(temperature))
            invalid("[onebit] temperature=" + onebit::to_decimal(temperature) + ": use 0 (the most probable token always) or more");
        if (top_k < 0) invalid("[onebit] top_k=" + std::to_string(top_k) + ": use 1 or more, or 0 for all tokens");
        if (!sequence->ready) invalid("[onebit] nothing to go on from: feed at least one token first");
        extend(*sequence, nullptr, 0);
        const double random = onebit::chance(seed, sequence->generated);
        std::vector<double> scores(sequence->logits.begin(), sequence->logits.end());
        for (const std::int32_t never : sequence->model->vocabulary.never())
            scores[static_cast<std::size_t>(never)] = -std::numeric_limits<double>::infinity();
        const std::int32_t chosen = onebit::choose_token(sequence->model->decoder->kernels(), scores, {temperature, top_k}, random);
        if (chosen < 0) fail(ONEBIT_INVALID_FILE, "[onebit] the model gives no logits that are numbers: its parameters are damaged");
        sequence->pending = chosen;
        ++sequence->generated;
        *token = chosen;
    });
}
