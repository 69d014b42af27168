#include "c_api_model.h"

#include <utility>

#include "c_api_guard.h"
#include "model_file.h"

namespace onebit::c_api {
namespace {

// The only place that makes a model of arrays or of tokens.
void construct(Loaded& model, const onebit::ModelFile& file, const onebit::Options& settings) {
    const onebit::Json program = onebit::parse_json(file.program());
    const onebit::Json* input = program.find("input");
    const onebit::Json* kind = input == nullptr ? nullptr : input->find("kind");
    const bool tokens = kind != nullptr && kind->text != "integers";
    if (tokens) {
        model.decoder = std::make_unique<onebit::TokenModel>(file.program(), file.tensors(), settings);
    } else {
        model.engine = std::make_unique<onebit::ArrayModel>(file.program(), file.tensors(), settings);
    }
}

std::string to_json(const onebit::Shape& shape) {
    std::string text = "[";
    for (const std::int64_t axis : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(axis);
    return text + "]";
}

// A text as JSON has it.
std::string to_json(const std::string& text) {
    constexpr char digits[] = "0123456789abcdef";
    std::string quoted = "\"";
    for (const char c : text) {
        const auto code = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            quoted += std::string("\\") + c;
        } else if (code < 0x20) {
            quoted += std::string("\\u00") + digits[code / 16] + digits[code % 16];
        } else {
            quoted += c;
        }
    }
    return quoted + "\"";
}

std::string to_json(const std::vector<onebit::ArrayModel::Place>& places) {
    std::string text = "[";
    for (const auto& place : places) {
        text += std::string(text.size() > 1 ? ", " : "") + "{\"name\": " + to_json(place.name) + ", \"shape\": " + to_json(place.shape) +
                (place.integers ? ", \"kind\": \"integers\"}" : "}");
    }
    return text + "]";
}

// The task's labels or its vocabulary. They must fit the program.
void take_task(Loaded& model, onebit::Task& task) {
    if (model.decoder) {
        check_fit(task, {model.decoder->context()}, {model.decoder->context(), model.decoder->outputs()}, true);
    } else {
        check_fit(task, model.engine->input_shape(), model.engine->output_shape(), false);
    }
    model.labels = std::move(task.labels);
    model.vocabulary = std::move(task.vocabulary);
    if (model.vocabulary.size() > 0) model.tokenizer = std::make_unique<onebit::Tokenizer>(model.vocabulary, task.lowercase);
}

std::string describe(const Loaded& model, const std::string& task) {
    const auto of = [&](const auto& runner) {
        return "\"precision\": \"" + std::string(runner.precision() == onebit::Precision::int8 ? "int8" : "float32") +
               "\", \"threads\": " + std::to_string(runner.threads()) + ", \"isa\": \"" + runner.kernels().name +
               "\", \"memory_bytes\": " + std::to_string(runner.memory_bytes());
    };
    std::string text = "{\"kind\": \"" + std::string(model.decoder ? "tokens" : "arrays") + "\", \"task\": " + task + ", ";
    if (model.decoder) {
        text += "\"input_shape\": " + to_json(onebit::Shape{model.decoder->context()}) +
                ", \"output_shape\": " + to_json(onebit::Shape{model.decoder->outputs()}) +
                ", \"context\": " + std::to_string(model.decoder->context()) + ", \"vocabulary_size\": " + std::to_string(model.vocabulary.size()) +
                ", " + of(*model.decoder);
    } else {
        text += "\"input_shape\": " + to_json(model.engine->input_shape()) + ", \"output_shape\": " + to_json(model.engine->output_shape()) + ", " +
                of(*model.engine);
        if (!model.engine->plain()) {
            text += ", \"inputs\": " + to_json(model.engine->inputs()) + ", \"outputs\": " + to_json(model.engine->outputs());
        }
    }
    return text + "}";
}

}  // namespace

std::shared_ptr<Loaded> build(const std::byte* data, std::size_t size, const onebit::Options& settings, const onebit_options& options) {
    onebit::ModelFile file(data, size);
    auto model = std::make_shared<Loaded>();
    if (options.interrupt != nullptr) {
        model->ask = [interrupt = options.interrupt, interrupt_data = options.interrupt_data] {
            if (interrupt(interrupt_data) != 0) throw onebit::Interrupted();
        };
    }
    construct(*model, file, settings);
    take_task(*model, file.task());
    model->description = describe(*model, file.task_text());
    return model;
}

const Loaded& of(const onebit_model* model) {
    need(model, "model");
    return *model->loaded;
}

}  // namespace onebit::c_api
