/*
 * json_tape.cc -- what needs C++: simdjson, and the shortest text of a double.
 *
 * One parser for each thread, since its buffers are worth keeping; those of a very large
 * document are not.  Nothing here blocks, so a goroutine stays on its thread meanwhile.
 * No object with a destructor is on the stack of what the caller may leave by a panic.
 */

#include "json_tape.h"

#include <charconv>

#include <simdjson.h>

static const size_t kept_capacity = 1 << 20;

extern "C" const char *
ht_json_tape(const char *text, size_t size, size_t max_depth, struct ht_json_tape *tape)
{
    static thread_local simdjson::dom::parser parser;
    simdjson::error_code                      error;

    if (parser.capacity() > kept_capacity && size <= kept_capacity)
        parser = simdjson::dom::parser();
    if (parser.capacity() < size || parser.max_depth() != max_depth) {
        error = parser.allocate(size, max_depth);
        if (error)
            return simdjson::error_message(error);
    }
    error = parser.parse(text, size).error();
    if (error)
        return simdjson::error_message(error);
    tape->words = parser.doc.tape.get();
    tape->strings = parser.doc.string_buf.get();
    return nullptr;
}

extern "C" char *
ht_json_put_number(char *at, double number)
{
    /* As digits only, simdjson, and not it alone, would take it for an integer that is too large. */
    if (number >= 0x1p63 || number <= -0x1p63)
        return std::to_chars(at, at + 32, number, std::chars_format::scientific).ptr;
    return std::to_chars(at, at + 32, number).ptr;
}
