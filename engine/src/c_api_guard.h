// What every function of the C API does: needs its arguments, and turns exceptions into status codes and messages.
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "onebit/onebit.h"
#include "turn.h"

namespace onebit::c_api {

// An error with its status.
struct Failure {
    onebit_status status;
    std::string message;
};

[[noreturn]] inline void fail(onebit_status status, std::string message) {
    throw Failure{status, std::move(message)};
}

[[noreturn]] inline void invalid(std::string message) {
    fail(ONEBIT_INVALID_ARGUMENT, std::move(message));
}

template <class T>
void need(const T* argument, const char* name) {
    if (argument == nullptr) invalid(std::string("[onebit] ") + name + " is NULL");
}

// Keeps the message for onebit_last_error, and returns the status.
onebit_status report(onebit_status status, const char* message) noexcept;
const char* last_message() noexcept;

// Runs `body`; every exception becomes a status and a message.
template <class Body>
onebit_status guarded(Body&& body) noexcept {
    try {
        body();
        return ONEBIT_OK;
    } catch (const Failure& failure) {
        return report(failure.status, failure.message.c_str());
    } catch (const std::bad_alloc&) {
        return report(ONEBIT_OUT_OF_MEMORY, "[onebit] out of memory: use a smaller model or batch, or close sequences");
    } catch (const std::length_error&) {
        return report(ONEBIT_OUT_OF_MEMORY, "[onebit] more memory is needed than there can be: use a smaller model");
    } catch (const std::system_error& error) {
        if (error.code() == std::errc::resource_unavailable_try_again)
            return report(ONEBIT_OUT_OF_MEMORY, "[onebit] the system gives no more threads: set fewer in the options");
        return report(ONEBIT_INTERNAL, error.what());
    } catch (const onebit::Interrupted& error) {
        return report(ONEBIT_INTERRUPTED, error.what());
    } catch (const std::invalid_argument& error) {
        return report(ONEBIT_INVALID_ARGUMENT, error.what());
    } catch (const std::exception& error) {
        return report(ONEBIT_INTERNAL, error.what());
    } catch (...) {
        return report(ONEBIT_INTERNAL, "[onebit] an unknown error");
    }
}

// The same for functions that do not return a status.
template <class T, class Body>
T guarded_or(T failed, Body&& body) noexcept {
    T result = failed;
    return guarded([&] { result = body(); }) == ONEBIT_OK ? result : failed;
}

}  // namespace onebit::c_api
