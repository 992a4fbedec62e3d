// What the kernel tells of this process and of the machine; what it does not tell is absent.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tprune {

using Readings = std::map<std::string, std::optional<std::int64_t>>;

// Keep this process, and the threads it is going to start, on these processors.
// Throws Failure where the kernel refuses.
void pin(const std::vector<std::int64_t>& cpus);

// Processors that this process may run on.
std::vector<std::int64_t> allowed_cpus();

// A figure of /proc/self/status in bytes, such as VmHWM.
std::optional<std::int64_t> memory_bytes(const std::string& name);

// Present frequency of each processor in kHz, by its number.
Readings frequencies_khz(const std::filesystem::path& sysfs);

// Temperatures in thousandths of a degree Celsius, by the zone's number and type.
Readings temperatures_mc(const std::filesystem::path& sysfs);

// What the power supplies tell, by supply and file, as `battery/status`: of batteries status, current and voltage, of
// all others whether they are plugged in.
std::map<std::string, std::string> power_supplies(const std::filesystem::path& sysfs);

}  // namespace tprune
