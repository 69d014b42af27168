// Reads a `.onebit` file: a safetensors file with a program and a task in its metadata. docs/program.md is the specification.
#pragma once

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "json.h"
#include "program.h"
#include "task.h"

namespace onebit {

// The file is missing, or the system cannot read it.
class UnreadableFile : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The bytes of a file, mapped if the system can, otherwise read.
class FileContent {
  public:
    // Throws UnreadableFile.
    explicit FileContent(const std::string& path, bool map = true);
    ~FileContent();
    FileContent(const FileContent&) = delete;
    FileContent& operator=(const FileContent&) = delete;

    const std::byte* data() const { return data_; }
    std::size_t size() const { return size_; }

  private:
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    bool mapped_ = false;
    std::unique_ptr<std::byte[]> read_;
};

// The parts of a packed model, with the form of the file checked. read_program checks that they fit together. Its tensors point into the bytes
// that it was made from, which must stay valid as long as the tensors are used.
class ModelFile {
  public:
    // Throws std::invalid_argument with a message for users.
    ModelFile(const std::byte* data, std::size_t size);
    ModelFile(const ModelFile&) = delete;
    ModelFile& operator=(const ModelFile&) = delete;

    const std::string& program() const { return program_; }
    const std::string& task_text() const { return task_text_; }
    // May be moved.
    Task& task() { return task_; }
    const Tensors& tensors() const { return tensors_; }

  private:
    void read_metadata(const Json& header);
    void read_tensors(const Json& header, const std::byte* data, std::size_t size);
    // Of a file with models of several numbers of planes: joins the tensors of the whole, and checks the smaller ones.
    void read_planes(const Json& header, std::uint64_t size);

    std::string program_, task_text_;
    Task task_;
    Tensors tensors_;
    std::vector<std::unique_ptr<float[]>> aligned_;        // copies of float tensors at unaligned addresses
    std::vector<std::unique_ptr<std::uint8_t[]>> joined_;  // tensors that are made of several
};

}  // namespace onebit
