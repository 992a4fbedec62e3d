// ExecuTorch with XNNPACK, as `tprune.export.engine_et` uses it.
#include <executorch/extension/threadpool/threadpool.h>
#include <executorch/runtime/core/data_loader.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/runtime.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <numeric>

#include "engine.h"
#include "failure.h"

#ifndef TPRUNE_EXECUTORCH_VERSION
#error "say which ExecuTorch this is: -DTPRUNE_EXECUTORCH_VERSION=\"1.4.1\""
#endif

namespace tprune {
namespace {

namespace et = executorch::runtime;
using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::aten::TensorImpl;

void check(et::Error error, const std::string& doing) {
  if (error != et::Error::Ok) {
    throw Failure("ExecuTorch: cannot " + doing + ": " + et::to_string(error));
  }
}

template <typename T>
T checked(et::Result<T> result, const std::string& doing) {
  check(result.error(), doing);
  return std::move(result.get());
}

// A program's file in memory; ExecuTorch's wheel brings no loader of its own to link with.
class MappedFile final : public et::DataLoader {
 public:
  explicit MappedFile(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (file >= 0 && fstat(file, &status) == 0 && status.st_size > 0) {
      size_ = static_cast<std::size_t>(status.st_size);
      data_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    }
    const int error = file >= 0 && status.st_size == 0 ? ENODATA : errno;
    if (file >= 0) close(file);
    if (data_ == MAP_FAILED) throw Failure(path + ": cannot be read: " + std::strerror(error));
  }
  ~MappedFile() override { munmap(data_, size_); }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  et::Result<et::FreeableBuffer> load(std::size_t offset, std::size_t size, const SegmentInfo&) const override {
    if (offset > size_ || size > size_ - offset) return et::Error::InvalidProgram;
    return et::FreeableBuffer(static_cast<const char*>(data_) + offset, size, nullptr);
  }

  et::Error load_into(std::size_t offset, std::size_t size, const SegmentInfo&, void* buffer) const override {
    if (offset > size_ || size > size_ - offset) return et::Error::InvalidProgram;
    std::memcpy(buffer, static_cast<const char*>(data_) + offset, size);
    return et::Error::Ok;
  }

  et::Result<std::size_t> size() const override { return size_; }

 private:
  void* data_ = MAP_FAILED;
  std::size_t size_ = 0;
};

// Memory that a method keeps for as long as it lives.
class Arena final : public et::MemoryAllocator {
 public:
  Arena() : MemoryAllocator(0, nullptr) {}

  void* allocate(std::size_t size, std::size_t alignment) override {
    blocks_.emplace_back(size + alignment);
    void* begin = blocks_.back().data();
    std::size_t room = blocks_.back().size();
    return std::align(alignment, size, begin, room);
  }

 private:
  std::vector<std::vector<std::uint8_t>> blocks_;
};

// A tensor over the caller's numbers.
class Input {
 public:
  Input(ScalarType type, std::vector<TensorImpl::SizesType> sizes, void* data)
      : sizes_(std::move(sizes)), order_(sizes_.size()), strides_(sizes_.size(), 1) {
    std::iota(order_.begin(), order_.end(), TensorImpl::DimOrderType{0});
    for (std::size_t axis = sizes_.size(); axis-- > 1;) strides_[axis - 1] = strides_[axis] * std::max(sizes_[axis], 1);
    impl_ = std::make_unique<TensorImpl>(type, static_cast<ssize_t>(sizes_.size()), sizes_.data(), data, order_.data(),
                                         strides_.data());
  }

  et::EValue value() { return et::EValue(Tensor(impl_.get())); }

 private:
  std::vector<TensorImpl::SizesType> sizes_;
  std::vector<TensorImpl::DimOrderType> order_;
  std::vector<TensorImpl::StridesType> strides_;
  std::unique_ptr<TensorImpl> impl_;
};

// A method and the memory that was planned for it.
class Method {
 public:
  Method(const et::Program& program, const std::string& name)
      : doing_("run " + name), buffers_(planned(checked(program.method_meta(name.c_str()), "find " + name))) {
    for (std::vector<std::uint8_t>& buffer : buffers_) spans_.emplace_back(buffer.data(), buffer.size());
    planned_ = std::make_unique<et::HierarchicalAllocator>(
        et::Span<et::Span<std::uint8_t>>(spans_.data(), spans_.size()));
    manager_ = std::make_unique<et::MemoryManager>(&arena_, planned_.get());
    method_ = std::make_unique<et::Method>(
        checked(program.load_method(name.c_str(), manager_.get()), "load " + name));
  }

  // All inputs are set before every execution: planned memory is overwritten by each.
  et::Error execute(const std::vector<et::EValue>& inputs) {
    for (std::size_t index = 0; index < inputs.size(); ++index) {
      if (const et::Error error = method_->set_input(inputs[index], index); error != et::Error::Ok) return error;
    }
    return method_->execute();
  }

  const std::string& doing() const { return doing_; }
  const et::EValue& output(std::size_t index) const { return method_->get_output(index); }
  std::size_t outputs() const { return method_->outputs_size(); }

 private:
  static std::vector<std::vector<std::uint8_t>> planned(const et::MethodMeta& meta) {
    std::vector<std::vector<std::uint8_t>> found;
    for (std::size_t index = 0; index < meta.num_memory_planned_buffers(); ++index) {
      found.emplace_back(static_cast<std::size_t>(checked(meta.memory_planned_buffer_size(index), "plan memory")));
    }
    return found;
  }

  std::string doing_;
  std::vector<std::vector<std::uint8_t>> buffers_;
  std::vector<et::Span<std::uint8_t>> spans_;
  Arena arena_;
  std::unique_ptr<et::HierarchicalAllocator> planned_;
  std::unique_ptr<et::MemoryManager> manager_;
  std::unique_ptr<et::Method> method_;
};

// A self-attention cache between two steps, copied out of the planned memory.
struct Kept {
  Cache cache;
  std::vector<float> values{0};
  std::int64_t length = 0;

  Input input() {
    const auto size = [](std::int64_t one) { return static_cast<TensorImpl::SizesType>(one); };
    return {ScalarType::Float, {1, size(cache.heads), size(length), size(cache.width)}, values.data()};
  }

  void take(const Tensor& grown) {
    const auto* begin = grown.const_data_ptr<float>();
    values.assign(begin, begin + grown.numel());
    length = grown.size(2);
  }
};

class ExecuTorch final : public Engine {
 public:
  explicit ExecuTorch(const Run& run)
      : step_name_(run.mode == Mode::kBuffered ? "buffered_step" : "decode_step"),
        file_(run.graph("encode").file),
        program_(load(run)),
        encode_(program_, "encode"),
        step_(program_, step_name_) {
    for (const std::string& name : run.graph("encode").inputs) {
      if (name == "source") {
        sentence_wiring_.push_back([this] { return Input(ScalarType::Long, {1, size(source_)}, source_.data()); });
      } else if (name == "candidates") {
        sentence_wiring_.push_back([this] { return Input(ScalarType::Long, {size(candidates_)}, candidates_.data()); });
      } else {
        throw Failure("nothing gives the input " + name + " of encode");
      }
    }
    const std::vector<std::string>& given = run.graph("encode").outputs;
    std::size_t caches = 0;
    for (const std::string& name : run.graph(step_name_).inputs) {
      if (name == "tokens") {
        wiring_.push_back([this] { return token_input_.value(); });
      } else if (name == "position") {
        wiring_.push_back([this] { return position_input_.value(); });
      } else if (const auto cache = run.caches.find(name); cache != run.caches.end()) {
        past_.push_back({cache->second});
        wiring_.push_back([this, index = caches++] { return past_inputs_[index].value(); });
      } else if (const auto known = std::find(given.begin(), given.end(), name); known != given.end()) {
        wiring_.push_back([this, index = static_cast<std::size_t>(known - given.begin())] {
          return encode_.output(index);
        });
      } else {
        throw Failure("nothing gives the step's input " + name);
      }
    }
    if (step_.outputs() != caches + 1) throw Failure("not as many caches out as in");
  }

  std::string name() const override { return "executorch"; }
  std::string version() const override { return TPRUNE_EXECUTORCH_VERSION; }

  Tokens translate(const Sentence&) override { throw Failure("ExecuTorch knows no whole mode"); }

  void encode(const Sentence& sentence) override {
    source_ = sentence.source;
    candidates_ = sentence.candidates;
    std::vector<Input> taken;
    for (const auto& input : sentence_wiring_) taken.push_back(input());
    std::vector<et::EValue> inputs;
    for (Input& input : taken) inputs.push_back(input.value());
    check(timed([&] { return encode_.execute(inputs); }), encode_.doing());
    for (Kept& one : past_) one.length = 0;
  }

  std::span<const float> step(std::int64_t token, std::int64_t position) override {
    token_ = token;
    position_ = position;
    past_inputs_.clear();
    for (Kept& one : past_) past_inputs_.push_back(one.input());
    step_inputs_.clear();
    for (const auto& source : wiring_) step_inputs_.push_back(source());
    check(timed([&] { return step_.execute(step_inputs_); }), step_.doing());
    for (std::size_t index = 0; index < past_.size(); ++index) past_[index].take(step_.output(index + 1).toTensor());
    const Tensor logits = step_.output(0).toTensor();
    return {logits.const_data_ptr<float>(), static_cast<std::size_t>(logits.numel())};
  }

 private:
  static TensorImpl::SizesType size(const Tokens& ids) { return static_cast<TensorImpl::SizesType>(ids.size()); }

  et::Program load(const Run& run) {
    if (run.mode == Mode::kWhole) throw Failure("ExecuTorch knows no whole mode");
    et::runtime_init();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    // before a method is loaded, which keeps a pointer to the pool; there is no other way to choose its size
    auto* pool = executorch::extension::threadpool::get_threadpool();
    const bool sized = pool != nullptr && pool->_unsafe_reset_threadpool(static_cast<std::uint32_t>(run.threads));
#pragma GCC diagnostic pop
    if (!sized) throw Failure("ExecuTorch: cannot make " + std::to_string(run.threads) + " threads");
    return checked(et::Program::load(&file_), "load " + run.graph("encode").file);
  }

  std::string step_name_;
  MappedFile file_;
  et::Program program_;
  Method encode_, step_;
  std::vector<std::function<Input()>> sentence_wiring_;
  std::vector<std::function<et::EValue()>> wiring_;
  Tokens source_, candidates_;
  std::int64_t token_ = 0, position_ = 0;
  Input token_input_{ScalarType::Long, {1}, &token_};
  Input position_input_{ScalarType::Long, {1}, &position_};
  std::vector<Kept> past_;
  std::vector<Input> past_inputs_;
  std::vector<et::EValue> step_inputs_;
};

}  // namespace

std::unique_ptr<Engine> open_engine(const Run& run) { return std::make_unique<ExecuTorch>(run); }

}  // namespace tprune
