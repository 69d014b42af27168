// The Python module onebit._engine. It only passes NumPy arrays in and out.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "array_model.h"
#include "calibration.h"
#include "cpu.h"
#include "sampling.h"
#include "text.h"
#include "token_model.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Array = nb::ndarray<nb::ro, nb::numpy, nb::device::cpu, nb::c_contig>;
using Output = nb::ndarray<float, nb::numpy>;

onebit::TensorView view(const std::string& name, const Array& array) {
    onebit::TensorView tensor;
    tensor.data = array.data();
    // float16, which C++ has no name for.
    constexpr nb::dlpack::dtype half{static_cast<std::uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};
    if (array.dtype() == nb::dtype<float>()) {
        tensor.type = onebit::TensorType::float32;
    } else if (array.dtype() == half) {
        tensor.type = onebit::TensorType::float16;
    } else if (array.dtype() == nb::dtype<std::int8_t>()) {
        tensor.type = onebit::TensorType::int8;
    } else if (array.dtype() != nb::dtype<std::uint8_t>()) {
        throw std::invalid_argument("[engine] tensor '" + name + "' is none of uint8, int8, float16 and float32");
    }
    for (std::size_t i = 0; i < array.ndim(); ++i) tensor.shape.push_back(static_cast<std::int64_t>(array.shape(i)));
    return tensor;
}

constexpr std::pair<const char*, onebit::CacheNumbers> cache_names[] = {
    {"float32", onebit::CacheNumbers::float32}, {"bf16", onebit::CacheNumbers::bf16}, {"int8", onebit::CacheNumbers::int8}};

void check_threads(int threads) {
    if (threads < 1 || threads > 256) throw std::invalid_argument("[engine] threads=" + std::to_string(threads) + ": use 1 to 256");
}

std::shared_ptr<onebit::ThreadPool> make_pool(int threads, bool pin) {
    check_threads(threads);
    return std::make_shared<onebit::ThreadPool>(threads, pin);
}

template <class Runner>
std::unique_ptr<Runner> make(const std::string& program, const nb::dict& tensors, const std::string& precision, int threads,
                             const std::optional<std::string>& isa, std::uint64_t memory_cap, bool pin, const std::optional<std::string>& cache,
                             std::shared_ptr<onebit::ThreadPool> pool) {
    if (precision != "int8" && precision != "float32") throw std::invalid_argument("[engine] precision='" + precision + "': use 'int8' or 'float32'");
    check_threads(threads);
    onebit::Tensors views;
    for (const auto& [key, item] : tensors) {
        const auto name = nb::cast<std::string>(key);
        views[name] = view(name, nb::cast<Array>(item));
    }
    onebit::Options options;
    options.precision = precision == "int8" ? onebit::Precision::int8 : onebit::Precision::float32;
    options.threads = threads;
    options.isa = isa.value_or("");
    options.memory_cap = memory_cap;
    options.pin = pin;
    options.pool = std::move(pool);
    for (const auto& [name, value] : cache_names) {
        if (cache == name) options.cache = value;
    }
    if (cache && !options.cache) throw std::invalid_argument("[engine] cache='" + *cache + "': use 'bf16', 'int8', or with precision 'float32' none");
    nb::gil_scoped_release release;
    return std::make_unique<Runner>(program, views, options);
}

template <class Runner>
nb::list plan(const Runner& runner) {
    nb::list lines;
    for (const onebit::PlanLine& line : runner.plan()) {
        nb::dict entry;
        entry["step"] = line.step;
        entry["value"] = line.value;
        entry["shape"] = line.shape;
        entry["kernel"] = line.kernel;
        entry["offset"] = line.offset;
        entry["bytes"] = line.bytes;
        entry["weight_bytes"] = line.weight_bytes;
        lines.append(entry);
    }
    return lines;
}

// For calls that wait for their turn: the waiting thread may need Python's lock to hear signals.
using waits = nb::call_guard<nb::gil_scoped_release>;

// The properties that both kinds of model have.
template <class Runner>
void describe(nb::class_<Runner>& runner) {
    runner
        .def(nb::new_(&make<Runner>), "program"_a, "tensors"_a, "precision"_a, "threads"_a, "isa"_a.none() = nb::none(),
             "memory_cap"_a = onebit::Options().memory_cap, "pin"_a = false, "cache"_a.none() = nb::none(), "pool"_a.none() = nb::none())
        .def_prop_ro("isa", [](const Runner& r) { return std::string(r.kernels().name); })
        .def_prop_ro("threads", &Runner::threads)
        .def_prop_ro("precision", [](const Runner& r) { return std::string(r.precision() == onebit::Precision::int8 ? "int8" : "float32"); })
        .def_prop_ro("memory_bytes", &Runner::memory_bytes, waits())
        .def_prop_ro("most_bytes", &Runner::most_bytes)
        .def_prop_ro("arena_bytes", &Runner::arena_bytes)
        .def("time_nodes", &Runner::time_nodes, waits())
        .def("nanoseconds", &Runner::nanoseconds, waits())
        .def("plan", &plan<Runner>);
}

// Handles Ctrl-C and other signals while the engine computes. Only Python's main thread may do so; other threads never wait for the lock.
onebit::Ask signals() {
    const nb::module_ threading = nb::module_::import_("threading");
    const bool main =
        nb::cast<unsigned long>(threading.attr("get_ident")()) == nb::cast<unsigned long>(threading.attr("main_thread")().attr("ident"));
    if (!main) return {};
    return [] {
        const nb::gil_scoped_acquire locked;
        if (PyErr_CheckSignals() != 0) throw nb::python_error();
    };
}

// A new array of floats that Python owns.
Output new_output(const std::vector<std::size_t>& shape) {
    std::size_t size = 1;
    for (const std::size_t axis : shape) size *= axis;
    auto* out = new float[size];
    nb::capsule owner(out, [](void* data) noexcept { delete[] static_cast<float*>(data); });
    return Output(out, shape.size(), shape.data(), owner);
}

Output extend(onebit::TokenModel& decoder, const std::vector<int>& sequences, const std::vector<std::int64_t>& counts,
              const nb::ndarray<const std::int32_t, nb::ndim<1>, nb::device::cpu, nb::c_contig>& tokens, bool all) {
    std::int64_t sum = 0;
    for (const std::int64_t count : counts) {
        if (count < 1 || count > decoder.context())
            throw std::invalid_argument("[engine] each sequence takes 1 to " + std::to_string(decoder.context()) + " tokens");
        sum += count;
    }
    if (sum != static_cast<std::int64_t>(tokens.shape(0))) throw std::invalid_argument("[engine] the counts do not add up to the tokens");
    Output out = new_output({all ? tokens.shape(0) : sequences.size(), static_cast<std::size_t>(decoder.outputs())});
    const onebit::Ask ask = signals();
    {
        nb::gil_scoped_release release;
        decoder.extend(sequences, counts, tokens.data(), all, out.data(), ask);
    }
    return out;
}

// The outputs, and the exits that each example passed.
std::tuple<Output, nb::ndarray<std::int32_t, nb::numpy>> run_to_exits(onebit::ArrayModel& engine, const Array& batch,
                                                                      std::optional<float> threshold) {
    const onebit::Shape& input = engine.input_shape();
    bool fits = batch.ndim() == input.size() + 1;
    for (std::size_t i = 0; fits && i < input.size(); ++i) fits = static_cast<std::int64_t>(batch.shape(i + 1)) == input[i];
    if (!fits) throw std::invalid_argument("[engine] the batch's shape does not fit the program's input");
    const bool pixels = batch.dtype() == nb::dtype<std::uint8_t>();
    if (!pixels && batch.dtype() != nb::dtype<float>()) throw std::invalid_argument("[engine] the batch is neither uint8 nor float32");
    const auto count = static_cast<std::int64_t>(batch.shape(0));
    std::vector<std::size_t> shape = {batch.shape(0)};
    for (const std::int64_t axis : engine.output_shape()) shape.push_back(static_cast<std::size_t>(axis));
    Output out = new_output(shape);
    auto* passed = new std::int32_t[batch.shape(0)];
    const nb::capsule owner(passed, [](void* data) noexcept { delete[] static_cast<std::int32_t*>(data); });
    nb::ndarray<std::int32_t, nb::numpy> exits(passed, {batch.shape(0)}, owner);
    const onebit::Early early{threshold, passed};
    const onebit::Ask ask = signals();
    {
        nb::gil_scoped_release release;
        if (pixels) {
            engine.run(static_cast<const std::uint8_t*>(batch.data()), count, out.data(), ask, early);
        } else {
            engine.run(static_cast<const float*>(batch.data()), count, out.data(), ask, early);
        }
    }
    return {out, exits};
}

Output run(onebit::ArrayModel& engine, const Array& batch) {
    return std::get<0>(run_to_exits(engine, batch, std::nullopt));
}

// How the token after each row of scores is chosen: temperature, top_k, top_p, min_p, and a random number.
using Draws = std::vector<std::tuple<double, std::int32_t, double, double, double>>;

std::vector<std::int32_t> choose(const nb::ndarray<nb::ro, nb::numpy, nb::ndim<2>, nb::device::cpu, nb::c_contig>& scores, const Draws& draws,
                                 const std::vector<std::int32_t>& never) {
    const std::size_t count = scores.shape(0), vocabulary = scores.shape(1);
    const bool single = scores.dtype() == nb::dtype<float>();
    if (!single && scores.dtype() != nb::dtype<double>()) throw std::invalid_argument("[engine] the scores are neither float32 nor float64");
    if (draws.size() != count) throw std::invalid_argument("[engine] a draw for each row of scores is needed");
    for (const std::int32_t token : never) {
        if (token < 0 || static_cast<std::size_t>(token) >= vocabulary) {
            throw std::invalid_argument("[engine] token " + std::to_string(token) + " has no score");
        }
    }
    const nb::gil_scoped_release release;
    const onebit::Kernels& kernels = onebit::choose_kernels("");
    std::vector<double> row(vocabulary);
    std::vector<std::int32_t> chosen;
    for (std::size_t i = 0; i < count; ++i) {
        if (single) {
            std::copy_n(static_cast<const float*>(scores.data()) + i * vocabulary, vocabulary, row.begin());
        } else {
            std::copy_n(static_cast<const double*>(scores.data()) + i * vocabulary, vocabulary, row.begin());
        }
        for (const std::int32_t token : never) row[static_cast<std::size_t>(token)] = -std::numeric_limits<double>::infinity();
        const auto& [temperature, top_k, top_p, min_p, random] = draws[i];
        chosen.push_back(onebit::choose_token(kernels, row, {temperature, top_k, top_p, min_p}, random));
    }
    return chosen;
}

nb::bytes save(onebit::TokenModel& decoder, int sequence) {
    std::vector<std::byte> saved;
    {
        const nb::gil_scoped_release release;
        saved = decoder.save(sequence);
    }
    return nb::bytes(saved.data(), saved.size());
}

int restore(onebit::TokenModel& decoder, std::int64_t length,
            const nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::device::cpu, nb::c_contig>& saved) {
    const nb::gil_scoped_release release;
    return decoder.restore(length, std::as_bytes(std::span(saved.data(), saved.shape(0))));
}

nb::list isas() {
    int count = 0;
    const onebit::Kernels* const* all = onebit::all_kernels(&count);
    nb::list found;
    for (int i = 0; i < count; ++i) {
        nb::dict entry;
        entry["name"] = all[i]->name;
        entry["text"] = all[i]->text;
        entry["needs"] = onebit::feature_names(all[i]->needs);
        entry["supported"] = onebit::supported(*all[i]);
        found.append(entry);
    }
    return found;
}

// The calibration of an instruction set.
nb::dict calibration(const std::string& isa) {
    const onebit::Calibration found = onebit::calibrate(onebit::choose_kernels(isa));
    nb::dict entry;
    entry["most_rows"] = found.ways.most_rows == onebit::any_rows ? nb::object(nb::none()) : nb::cast(found.ways.most_rows);
    entry["least_image_gain"] = found.ways.least_image_gain == onebit::never ? nb::object(nb::none()) : nb::cast(found.ways.least_image_gain);
    entry["least_divided"] = found.ways.least_divided;
    entry["source"] = found.source;
    entry["file"] = found.file;
    return entry;
}

}  // namespace

NB_MODULE(_engine, m) {
    m.doc() = "The engine that runs packed programs.";
    // A program may keep a session or a tokenizer until its end.
    nb::set_leak_warnings(false);
    m.def("isas", &isas, "The instruction sets of this build, the best last.");
    m.def("choose", &choose, "scores"_a, "draws"_a, "never"_a, "The next token after each row of scores.");
    m.def("calibration", &calibration, "isa"_a, "Which ways a set takes on this machine, and where that is known from.");
    nb::class_<onebit::ThreadPool>(m, "ThreadPool")
        .def(nb::new_(&make_pool), "threads"_a, "pin"_a = false)
        .def_prop_ro("threads", &onebit::ThreadPool::threads);
    nb::class_<onebit::ArrayModel> engine(m, "Engine");
    describe(engine);
    engine.def("run", &run, "batch"_a);
    engine.def("run_to_exits", &run_to_exits, "batch"_a, "threshold"_a.none() = nb::none());
    nb::class_<onebit::TokenModel> decoder(m, "Decoder");
    describe(decoder);
    decoder.def("open", &onebit::TokenModel::open, waits())
        .def("fork", &onebit::TokenModel::fork, "sequence"_a, "length"_a, waits())
        .def("save", &save, "sequence"_a)
        .def("restore", &restore, "length"_a, "saved"_a)
        .def("close", &onebit::TokenModel::close, "sequence"_a, waits())
        .def("length", &onebit::TokenModel::length, "sequence"_a, waits())
        .def("cut", &onebit::TokenModel::cut, "sequence"_a, "length"_a, waits())
        .def("extend", &extend, "sequences"_a, "counts"_a, "tokens"_a, "all"_a = false)
        .def_prop_ro("cache",
                     [](const onebit::TokenModel& d) {
                         for (const auto& [name, value] : cache_names) {
                             if (value == d.cache()) return std::string(name);
                         }
                         return std::string();
                     })
        .def_prop_ro("context", &onebit::TokenModel::context)
        .def_prop_ro("outputs", &onebit::TokenModel::outputs);
    bind_tokenizer(m);
}
