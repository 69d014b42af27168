// The Python module onebit._engine: NumPy arrays in and out, nothing else.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>

#include "cpu.h"
#include "engine.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Array = nb::ndarray<nb::ro, nb::numpy, nb::device::cpu, nb::c_contig>;
using Output = nb::ndarray<float, nb::numpy>;

onebit::TensorView view(const std::string& name, const Array& array) {
    onebit::TensorView tensor;
    tensor.data = array.data();
    tensor.is_float = array.dtype() == nb::dtype<float>();
    if (!tensor.is_float && array.dtype() != nb::dtype<std::uint8_t>()) {
        throw std::invalid_argument("[engine] tensor '" + name + "' is neither uint8 nor float32");
    }
    for (std::size_t i = 0; i < array.ndim(); ++i) tensor.shape.push_back(static_cast<std::int64_t>(array.shape(i)));
    return tensor;
}

std::unique_ptr<onebit::Engine> make(const std::string& program, const nb::dict& tensors, const std::string& precision, int threads,
                                     const std::optional<std::string>& isa) {
    if (precision != "int8" && precision != "float32") throw std::invalid_argument("[engine] precision='" + precision + "': use 'int8' or 'float32'");
    if (threads < 1 || threads > 256) throw std::invalid_argument("[engine] threads=" + std::to_string(threads) + ": use 1 to 256");
    onebit::Tensors views;
    for (const auto& [key, item] : tensors) {
        const auto name = nb::cast<std::string>(key);
        views[name] = view(name, nb::cast<Array>(item));
    }
    const auto kind = precision == "int8" ? onebit::Precision::int8 : onebit::Precision::float32;
    return std::make_unique<onebit::Engine>(program, views, kind, threads, isa.value_or(""));
}

Output run(onebit::Engine& engine, const Array& batch) {
    const onebit::Shape& input = engine.input_shape();
    bool fits = batch.ndim() == input.size() + 1;
    for (std::size_t i = 0; fits && i < input.size(); ++i) fits = static_cast<std::int64_t>(batch.shape(i + 1)) == input[i];
    if (!fits) throw std::invalid_argument("[engine] the batch's shape does not fit the program's input");
    const bool pixels = batch.dtype() == nb::dtype<std::uint8_t>();
    if (!pixels && batch.dtype() != nb::dtype<float>()) throw std::invalid_argument("[engine] the batch is neither uint8 nor float32");
    const auto count = static_cast<std::int64_t>(batch.shape(0));
    std::vector<std::size_t> shape = {batch.shape(0)};
    for (const std::int64_t axis : engine.output_shape()) shape.push_back(static_cast<std::size_t>(axis));
    auto* out = new float[static_cast<std::size_t>(count * onebit::elements(engine.output_shape()))];
    nb::capsule owner(out, [](void* data) noexcept { delete[] static_cast<float*>(data); });
    {
        nb::gil_scoped_release release;
        if (pixels) {
            engine.run(static_cast<const std::uint8_t*>(batch.data()), count, out);
        } else {
            engine.run(static_cast<const float*>(batch.data()), count, out);
        }
    }
    return Output(out, shape.size(), shape.data(), owner);
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

}  // namespace

NB_MODULE(_engine, m) {
    m.doc() = "The engine that runs packed programs.";
    m.def("isas", &isas, "The instruction sets of this build, the best last.");
    nb::class_<onebit::Engine>(m, "Engine")
        .def(nb::new_(&make), "program"_a, "tensors"_a, "precision"_a, "threads"_a, "isa"_a.none() = nb::none())
        .def("run", &run, "batch"_a)
        .def_prop_ro("isa", [](const onebit::Engine& e) { return std::string(e.kernels().name); })
        .def_prop_ro("threads", &onebit::Engine::threads)
        .def_prop_ro("precision", [](const onebit::Engine& e) { return std::string(e.precision() == onebit::Precision::int8 ? "int8" : "float32"); })
        .def_prop_ro("memory_bytes", &onebit::Engine::memory_bytes);
}
