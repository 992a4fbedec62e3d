// ONNX Runtime through its C interface, with the session options of `tprune.export.engine_ort`.
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <functional>
#include <iterator>

#include "engine.h"
#include "failure.h"

namespace tprune {
namespace {

const OrtApi& api() {
  static const OrtApi* found = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (found == nullptr) throw Failure("this ONNX Runtime is older than the headers of this runner");
  return *found;
}

void check(OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = api().GetErrorMessage(status);
  api().ReleaseStatus(status);
  throw Failure("ONNX Runtime: " + message);
}

// What the library hands out, with what gives it back.
template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

template <typename T, typename Make>
Owned<T> owned(void (*release)(T*), Make&& make) {
  T* made = nullptr;
  check(make(&made));
  return {made, release};
}

using Value = Owned<OrtValue>;
using Shape = std::vector<std::int64_t>;

Value no_value() { return {nullptr, api().ReleaseValue}; }

class Session {
 public:
  Session(const Graph& graph, OrtEnv* environment, const OrtSessionOptions* options)
      : session_(owned<OrtSession>(api().ReleaseSession,
                                   [&](OrtSession** made) {
                                     return api().CreateSession(environment, graph.file.c_str(), options, made);
                                   })),
        inputs_(pointers(graph.inputs)),
        outputs_(pointers(graph.outputs)) {}

  // Run on inputs in the graph's order; the library makes the outputs.
  OrtStatus* run(const std::vector<const OrtValue*>& inputs, std::vector<OrtValue*>& outputs) const {
    outputs.assign(outputs_.size(), nullptr);
    return api().Run(session_.get(), nullptr, inputs_.data(), inputs.data(), inputs_.size(), outputs_.data(),
                     outputs_.size(), outputs.data());
  }

 private:
  static std::vector<const char*> pointers(const std::vector<std::string>& names) {
    std::vector<const char*> found;
    for (const std::string& name : names) found.push_back(name.c_str());
    return found;
  }

  Owned<OrtSession> session_;
  std::vector<const char*> inputs_;
  std::vector<const char*> outputs_;
};

class OnnxRuntime final : public Engine {
 public:
  explicit OnnxRuntime(const Run& run)
      : run_(run),
        environment_(owned<OrtEnv>(
            api().ReleaseEnv,
            [](OrtEnv** made) { return api().CreateEnv(ORT_LOGGING_LEVEL_ERROR, "tprune", made); })),
        memory_(owned<OrtMemoryInfo>(
            api().ReleaseMemoryInfo,
            [](OrtMemoryInfo** made) { return api().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, made); })) {
    if (run.mode == Mode::kBuffered) throw Failure("ONNX Runtime knows no buffered mode");
    if (run.mode == Mode::kWhole) {
      load("translate");
      wire_sentence("translate");
    } else {
      load("encode");
      wire_sentence("encode");
      load("decode_step");
      wire();
    }
  }

  std::string name() const override { return "onnxruntime"; }
  std::string version() const override { return OrtGetApiBase()->GetVersionString(); }

  Tokens translate(const Sentence& sentence) override {
    const std::vector<Value> made = run("translate", taken(sentence));
    const std::int64_t* tokens = data<std::int64_t>(made[0]);
    return {tokens, tokens + size_of(made[0])};
  }

  void encode(const Sentence& sentence) override {
    known_ = run("encode", taken(sentence));
    past_.clear();
    for (const Shape& shape : empty_) past_.push_back(floats(shape));
  }

  std::span<const float> step(std::int64_t token, std::int64_t position) override {
    token_[0] = token;
    position_[0] = position;
    const Value tokens = integers(token_, {1});
    const Value positions = integers(position_, {1});
    std::vector<const OrtValue*> inputs;
    for (const Source& source : wiring_) inputs.push_back(source(tokens, positions));
    made_ = run("decode_step", inputs);
    logits_ = std::move(made_[0]);
    std::move(made_.begin() + 1, made_.end(), past_.begin());
    return {data<float>(logits_), size_of(logits_)};
  }

 private:
  // Where an input of the step comes from.
  using Source = std::function<const OrtValue*(const Value& token, const Value& position)>;

  void load(const std::string& name) {
    const auto options =
        owned<OrtSessionOptions>(api().ReleaseSessionOptions, [](OrtSessionOptions** made) {
          return api().CreateSessionOptions(made);
        });
    check(api().SetIntraOpNumThreads(options.get(), static_cast<int>(run_.threads)));
    check(api().SetInterOpNumThreads(options.get(), 1));
    check(api().SetSessionLogSeverityLevel(options.get(), ORT_LOGGING_LEVEL_ERROR));
    check(api().AddSessionConfigEntry(options.get(), "session.force_spinning_stop", "1"));
    check(api().DisableMemPattern(options.get()));
    sessions_.try_emplace(name, run_.graph(name), environment_.get(), options.get());
  }

  // Decide where each input of a graph that takes a sentence comes from.
  void wire_sentence(const std::string& graph) {
    const std::map<std::string, const Value*> given{
        {"source", &source_}, {"source_mask", &mask_}, {"candidates", &candidates_}, {"limits", &limits_}};
    for (const std::string& name : run_.graph(graph).inputs) {
      const auto found = given.find(name);
      if (found == given.end()) throw Failure("nothing gives the input " + name + " of " + graph);
      sentence_wiring_.push_back(found->second);
    }
  }

  // Decide where each input of the step comes from, and what an empty cache looks like.
  void wire() {
    const std::vector<std::string>& given = run_.graph("encode").outputs;
    std::size_t caches = 0;
    for (const std::string& name : run_.graph("decode_step").inputs) {
      if (name == "tokens") {
        wiring_.push_back([](const Value& token, const Value&) { return token.get(); });
      } else if (name == "position") {
        wiring_.push_back([](const Value&, const Value& position) { return position.get(); });
      } else if (name == "source_mask") {
        wiring_.push_back([this](const Value&, const Value&) { return mask_.get(); });
      } else if (const auto cache = run_.caches.find(name); cache != run_.caches.end()) {
        empty_.push_back({1, cache->second.heads, 0, cache->second.width});
        wiring_.push_back([this, index = caches++](const Value&, const Value&) { return past_[index].get(); });
      } else if (const auto known = std::find(given.begin(), given.end(), name); known != given.end()) {
        const auto index = static_cast<std::size_t>(known - given.begin());
        wiring_.push_back([this, index](const Value&, const Value&) { return known_[index].get(); });
      } else {
        throw Failure("nothing gives the step's input " + name);
      }
    }
    if (run_.graph("decode_step").outputs.size() != caches + 1) throw Failure("not as many caches out as in");
  }

  std::vector<Value> run(const std::string& name, const std::vector<const OrtValue*>& inputs) {
    std::vector<OrtValue*> outputs;
    const Session& session = sessions_.at(name);
    check(timed([&] { return session.run(inputs, outputs); }));
    std::vector<Value> found;
    for (OrtValue* output : outputs) found.emplace_back(output, api().ReleaseValue);
    return found;
  }

  // A sentence as inputs of the graph that takes it.
  std::vector<const OrtValue*> taken(const Sentence& sentence) {
    source_ids_ = sentence.source;
    mask_ids_.assign(source_ids_.size(), 1);
    candidate_ids_ = sentence.candidates;
    limit_[0] = sentence.limit;
    source_ = integers(source_ids_, {1, std::ssize(source_ids_)});
    mask_ = integers(mask_ids_, {1, std::ssize(mask_ids_)});
    if (!candidate_ids_.empty()) candidates_ = integers(candidate_ids_, {std::ssize(candidate_ids_)});
    limits_ = integers(limit_, {1});
    std::vector<const OrtValue*> inputs;
    for (const Value* value : sentence_wiring_) inputs.push_back(value->get());
    return inputs;
  }

  // A tensor over the caller's integers, which have to outlive it.
  Value integers(Tokens& values, const Shape& shape) const {
    return owned<OrtValue>(api().ReleaseValue, [&](OrtValue** made) {
      return api().CreateTensorWithDataAsOrtValue(memory_.get(), values.data(), sizeof(values[0]) * values.size(),
                                                  shape.data(), shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
                                                  made);
    });
  }

  // A tensor of no numbers.
  Value floats(const Shape& empty) {
    return owned<OrtValue>(api().ReleaseValue, [&](OrtValue** made) {
      return api().CreateTensorWithDataAsOrtValue(memory_.get(), &nothing_, 0, empty.data(), empty.size(),
                                                  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, made);
    });
  }

  template <typename T>
  static const T* data(const Value& value) {
    void* found = nullptr;
    check(api().GetTensorMutableData(value.get(), &found));
    return static_cast<const T*>(found);
  }

  static std::size_t size_of(const Value& value) {
    const auto info = owned<OrtTensorTypeAndShapeInfo>(
        api().ReleaseTensorTypeAndShapeInfo,
        [&](OrtTensorTypeAndShapeInfo** made) { return api().GetTensorTypeAndShape(value.get(), made); });
    std::size_t count = 0;
    check(api().GetTensorShapeElementCount(info.get(), &count));
    return count;
  }

  const Run& run_;
  Owned<OrtEnv> environment_;
  Owned<OrtMemoryInfo> memory_;
  std::map<std::string, Session> sessions_;
  std::vector<const Value*> sentence_wiring_;
  std::vector<Source> wiring_;
  std::vector<Shape> empty_;
  Tokens source_ids_, mask_ids_, candidate_ids_, limit_{0}, token_{0}, position_{0};
  float nothing_ = 0;
  Value source_ = no_value();
  Value mask_ = no_value();
  Value candidates_ = no_value();
  Value limits_ = no_value();
  Value logits_ = no_value();
  std::vector<Value> known_, past_, made_;
};

}  // namespace

std::unique_ptr<Engine> open_engine(const Run& run) { return std::make_unique<OnnxRuntime>(run); }

}  // namespace tprune
