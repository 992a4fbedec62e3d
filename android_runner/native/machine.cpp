#include "machine.h"

#include <sched.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "failure.h"

namespace tprune {
namespace {

std::optional<std::int64_t> number_in(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::int64_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

// Entries of a directory whose names begin so, with the rest of their names.
std::map<std::string, std::filesystem::path> numbered(const std::filesystem::path& folder, const std::string& prefix) {
  std::map<std::string, std::filesystem::path> found;
  std::error_code ignored;  // a phone's shell may not be allowed to look
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename();
    const std::string rest = name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : "";
    if (!rest.empty() && rest.find_first_not_of("0123456789") == std::string::npos) found[rest] = entry.path();
  }
  return found;
}

}  // namespace

void pin(const std::vector<std::int64_t>& cpus) {
  cpu_set_t wanted;
  CPU_ZERO(&wanted);
  std::string named;
  for (const std::int64_t cpu : cpus) {
    named += ' ';
    named += std::to_string(cpu);
    if (cpu < 0 || cpu >= CPU_SETSIZE) throw Failure("no such processor:" + named);
    CPU_SET(static_cast<std::size_t>(cpu), &wanted);
  }
  if (sched_setaffinity(0, sizeof wanted, &wanted) != 0) {
    throw Failure("cannot be pinned to processors" + named + ": " + std::strerror(errno));
  }
}

std::vector<std::int64_t> allowed_cpus() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  std::vector<std::int64_t> found;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return found;
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) found.push_back(static_cast<std::int64_t>(cpu));
  }
  return found;
}

std::optional<std::int64_t> memory_bytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) != 0) continue;
    std::istringstream rest(line.substr(name.size() + 1));
    std::int64_t kibibytes = 0;
    if (rest >> kibibytes) return 1024 * kibibytes;
  }
  return std::nullopt;
}

Readings frequencies_khz(const std::filesystem::path& sysfs) {
  Readings found;
  for (const auto& [number, path] : numbered(sysfs / "devices/system/cpu", "cpu")) {
    if (const auto khz = number_in(path / "cpufreq/scaling_cur_freq")) found[number] = khz;
  }
  return found;
}

Readings temperatures_mc(const std::filesystem::path& sysfs) {
  Readings found;
  for (const auto& [number, path] : numbered(sysfs / "class/thermal", "thermal_zone")) {
    std::ifstream type(path / "type");
    std::string name;
    std::getline(type, name);
    found[number + " " + name] = number_in(path / "temp");
  }
  return found;
}

std::map<std::string, std::string> power_supplies(const std::filesystem::path& sysfs) {
  std::map<std::string, std::string> found;
  std::error_code ignored;  // a phone's shell may not be allowed to look
  for (const auto& entry : std::filesystem::directory_iterator(sysfs / "class/power_supply", ignored)) {
    const auto read = [&](const char* file) {
      std::ifstream opened(entry.path() / file);
      std::string line;
      if (std::getline(opened, line)) found[(entry.path().filename() / file).string()] = line;
      return line;
    };
    if (read("type") == "Battery") {
      for (const char* file : {"status", "current_now", "voltage_now"}) read(file);
    } else {
      read("online");
    }
  }
  return found;
}

}  // namespace tprune
