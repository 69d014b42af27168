#include "model_file.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <system_error>

#include "json.h"
#include "nested_models.h"
#include "unicode.h"

#if __has_include(<sys/mman.h>)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define ONEBIT_MMAP
#endif

namespace onebit {
namespace {

// safetensors refuses larger headers too.
constexpr std::uint64_t max_header_bytes = 100'000'000;
constexpr std::size_t max_tensor_axes = 4;  // the most axes that a tensor of a program has
constexpr std::size_t size_bytes = 8;       // a file begins with the size of its header, in this many bytes

static_assert(std::endian::native == std::endian::little, "tensors are little-endian in the file and are used as they lie");

[[noreturn]] void damaged(const std::string& what) {
    throw std::invalid_argument("damaged: " + what + "; copy or pack it again");
}

// Returns the text of the header. Refuses what cannot be a safetensors file.
std::string_view header_text(const std::byte* data, std::size_t size) {
    if (size == 0) throw std::invalid_argument("is empty: copy or pack it again");
    if (size <= size_bytes || data[size_bytes] != std::byte{'{'}) throw std::invalid_argument("is not a .onebit file: make one with 'onebit pack'");
    std::uint64_t header = 0;
    std::memcpy(&header, data, size_bytes);
    if (header > max_header_bytes) throw std::invalid_argument("is not a .onebit file: its header claims " + std::to_string(header) + " bytes");
    if (header > size - size_bytes) {
        throw std::invalid_argument("is truncated: its header needs " + std::to_string(size_bytes + header) + " bytes, the file has " +
                                    std::to_string(size) + "; copy it again");
    }
    const std::string_view text(reinterpret_cast<const char*>(data + size_bytes), static_cast<std::size_t>(header));
    // Names and labels are passed to programs that expect UTF-8.
    if (!is_utf8(text)) damaged("the header is not UTF-8");
    return text;
}

Json parse(std::string_view text, const char* what, const char* advice) {
    try {
        return parse_json(text, what);
    } catch (const std::invalid_argument& error) {
        throw std::invalid_argument(error.what() + std::string(advice));
    }
}

bool is_integer(const Json& value, double least) {
    return value.kind == Json::Kind::number && value.is_integer && value.number >= least;
}

const std::vector<Json>& list_of(const Json& entry, const char* name, const std::string& where) {
    const Json* member = entry.find(name);
    if (member == nullptr || member->kind != Json::Kind::list) damaged(where + " lacks its " + name);
    return member->list;
}

#if defined(ONEBIT_MMAP)
struct Descriptor {
    int number;
    ~Descriptor() {
        if (number >= 0) ::close(number);
    }
};
#endif

[[noreturn]] void unreadable(int error) {
    if (error == ENOENT || error == ENOTDIR) throw UnreadableFile("no such file");
    if (error == EISDIR) throw UnreadableFile("is a folder: give a .onebit file; 'onebit pack' makes one from a training run");
    throw UnreadableFile("cannot be read: " + std::generic_category().message(error));
}

}  // namespace

FileContent::FileContent(const std::string& path, bool map) {
#if defined(ONEBIT_MMAP)
    // O_NONBLOCK: opening a pipe without a writer must not block the caller.
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    struct stat status{};
    if (file.number < 0 || ::fstat(file.number, &status) != 0) unreadable(errno);
    if (S_ISDIR(status.st_mode)) unreadable(EISDIR);
    if (!S_ISREG(status.st_mode)) throw UnreadableFile("is a device or pipe: give a .onebit file");
    if (status.st_size == 0) return;
    if (map) {
        void* mapping = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file.number, 0);
        // Some file systems cannot map files, but all can read them.
        if (mapping != MAP_FAILED) {
            data_ = static_cast<const std::byte*>(mapping);
            size_ = static_cast<std::size_t>(status.st_size);
            mapped_ = true;
            return;
        }
    }
#endif
    struct Stream {
        std::FILE* file;
        ~Stream() {
            if (file != nullptr) std::fclose(file);
        }
    };
    errno = 0;
    const Stream stream{std::fopen(path.c_str(), "rb")};
    if (stream.file == nullptr || std::fseek(stream.file, 0, SEEK_END) != 0) unreadable(errno);
    const long end = std::ftell(stream.file);
    if (end < 0 || std::fseek(stream.file, 0, SEEK_SET) != 0) unreadable(errno);
    read_.reset(new std::byte[static_cast<std::size_t>(end)]);
    size_ = std::fread(read_.get(), 1, static_cast<std::size_t>(end), stream.file);
    if (std::ferror(stream.file) != 0) unreadable(errno);
    data_ = read_.get();
}

FileContent::~FileContent() {
#if defined(ONEBIT_MMAP)
    if (mapped_) ::munmap(const_cast<std::byte*>(data_), size_);
#endif
}

ModelFile::ModelFile(const std::byte* data, std::size_t size) {
    const std::string_view text = header_text(data, size);
    const Json header = parse(text, "header", "; the file is damaged: copy or pack it again");
    if (header.kind != Json::Kind::object) damaged("the header is not an object");
    read_metadata(header);
    read_tensors(header, data + size_bytes + text.size(), size - size_bytes - text.size());
    read_planes(header, size - size_bytes - text.size());
}

void ModelFile::read_metadata(const Json& header) {
    const Json* metadata = header.find("__metadata__");
    if (metadata != nullptr && metadata->kind != Json::Kind::object) damaged("__metadata__ is not an object");
    if (metadata != nullptr) {
        for (const auto& [name, value] : metadata->object) {
            if (value.kind != Json::Kind::text) damaged("the metadata's " + excerpt(name) + " is not a text");
        }
    }
    const auto entry = [&](const char* name) { return metadata == nullptr ? nullptr : metadata->find(name); };
    const Json* version = entry("onebit_format");
    if (version == nullptr) throw std::invalid_argument("a safetensors file, but not a packed model: make one with 'onebit pack'");
    if (version->text != "1") throw std::invalid_argument("format version " + excerpt(version->text) + ": this onebit reads '1'; use a newer one");
    const Json* program = entry("program");
    if (program == nullptr) throw std::invalid_argument("[program] missing from the metadata; the file is damaged");
    program_ = program->text;
    const Json* task = entry("task");
    if (task != nullptr) {
        task_text_ = task->text;
        task_ = read_task(parse(task_text_, "task", "; the file is damaged"));
    } else {
        task_ = read_task(Json());
    }
}

void ModelFile::read_planes(const Json& header, std::uint64_t size) {
    const Json* metadata = header.find("__metadata__");
    const Json* text = metadata == nullptr ? nullptr : metadata->find("planes");
    if (text == nullptr) return;
    const NestedModels nested = read_nested_models(parse(text->text, "planes", "; the file is damaged"), size);
    std::map<std::string, std::uint64_t> ends;  // of each tensor in the data
    for (const auto& [name, entry] : header.object) {
        if (name != "__metadata__") ends[name] = static_cast<std::uint64_t>(entry.at("data_offsets").list[1].number);
    }
    const Tensors stored = tensors_;
    std::uint64_t taken = 0;
    for (const auto& [name, parts] : nested.joined) {
        TensorView whole = joined_view(name, parts, stored);
        const auto bytes = static_cast<std::uint64_t>(elements(whole.shape));
        taken += bytes;
        check_joined(taken, size);
        joined_.push_back(std::make_unique<std::uint8_t[]>(static_cast<std::size_t>(bytes)));
        std::uint8_t* next = joined_.back().get();
        std::uint64_t end = 0;
        for (const std::string& part : parts) {
            const TensorView& view = stored.at(part);
            next = std::copy_n(static_cast<const std::uint8_t*>(view.data), elements(view.shape), next);
            end = std::max(end, ends.at(part));
        }
        whole.data = joined_.back().get();
        tensors_.emplace(name, std::move(whole));
        ends[name] = end;
    }
    for (const auto& [planes, end] : nested.smaller) {
        const Json* program = metadata->find("program:" + std::to_string(planes));
        if (program == nullptr) nested_fault("the metadata lacks 'program:" + std::to_string(planes) + "'");
        Tensors own;
        for (const auto& [name, view] : tensors_) {
            if (ends.at(name) <= end) own.emplace(name, view);
        }
        check_smaller(planes, program->text, program_, own, tensors_);
    }
}

void ModelFile::read_tensors(const Json& header, const std::byte* data, std::size_t size) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> places;
    for (const auto& [name, entry] : header.object) {
        if (name == "__metadata__") continue;
        const std::string where = "tensor " + excerpt(name);
        const Json* type = entry.find("dtype");
        if (type == nullptr || type->kind != Json::Kind::text) damaged(where + " lacks its dtype");
        TensorView view;
        const TensorTypeNames* known = type_in_file(type->text);
        if (known == nullptr) {
            throw std::invalid_argument(where + " is of type " + excerpt(type->text) +
                                        ": a packed model holds F32, F16, I8, U8; make one with 'onebit pack'");
        }
        view.type = known->type;
        const auto& offsets = list_of(entry, "data_offsets", where);
        if (offsets.size() != 2 || !is_integer(offsets[0], 0) || !is_integer(offsets[1], 0))
            damaged(where + " lies at another place than two integers from 0 to 9007199254740991");
        const auto begin = static_cast<std::uint64_t>(offsets[0].number), end = static_cast<std::uint64_t>(offsets[1].number);
        if (begin > end) damaged(where + " ends before it begins");
        if (end > size) {
            throw std::invalid_argument("is truncated: " + where + " needs " + std::to_string(end) + " bytes of data, the file has " +
                                        std::to_string(size) + "; copy it again");
        }
        auto bytes = static_cast<std::uint64_t>(known->bytes);
        const auto& shape = list_of(entry, "shape", where);
        if (shape.size() > max_tensor_axes || !std::all_of(shape.begin(), shape.end(), [](const Json& axis) { return is_integer(axis, 1); }))
            damaged(where + " has a wrong shape: needs at most " + std::to_string(max_tensor_axes) + " integers from 1");
        for (const Json& axis : shape) {
            const auto n = static_cast<std::uint64_t>(axis.number);
            // Within the data at each step, so that no product overflows.
            if (bytes > size / n) damaged(where + " has more elements than the file has bytes");
            bytes *= n;
            view.shape.push_back(static_cast<std::int64_t>(n));
        }
        if (bytes != end - begin) damaged(where + " takes " + std::to_string(end - begin) + " bytes, its shape needs " + std::to_string(bytes));
        view.data = data + begin;
        if (reinterpret_cast<std::uintptr_t>(view.data) % static_cast<std::uintptr_t>(known->bytes) != 0) {
            aligned_.push_back(std::make_unique<float[]>(static_cast<std::size_t>((bytes + sizeof(float) - 1) / sizeof(float))));
            std::memcpy(aligned_.back().get(), view.data, static_cast<std::size_t>(bytes));
            view.data = aligned_.back().get();
        }
        places.emplace_back(begin, end);
        tensors_.emplace(name, std::move(view));
    }
    // As in safetensors, each byte of the data must belong to exactly one tensor.
    std::sort(places.begin(), places.end());
    std::uint64_t reached = 0;
    for (const auto& [begin, end] : places) {
        if (begin != reached) damaged("its tensors overlap, or leave a gap between them");
        reached = end;
    }
    if (reached != size) damaged("it has " + std::to_string(size - reached) + " bytes that belong to no tensor");
}

}  // namespace onebit
