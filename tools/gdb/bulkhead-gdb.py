# bulkhead-gdb.py -- goroutines in gdb, in a live process and in a core file.
#
#     (gdb) source tools/gdb/bulkhead-gdb.py
#     (gdb) info goroutines                 every goroutine: number, state, place
#     (gdb) goroutine 7 bt                  any command, in goroutine 7
#     (gdb) goroutine all bt                ... in each of them
#     (gdb) goroutine 7                     stay there; `goroutine 0` goes back
#
# gdb knows threads.  A goroutine that runs is one of them.  A parked one is only
# the registers that rt_switch saved at g->sp.  For it we register an unwinder: it
# tells gdb that the caller of the selected thread's innermost frame is
# the parked frame.  So nothing is written to the process, which is why it works
# in a core file; and gdb's own unwinder does the rest, by the CFI.
#
# Descriptors are found by walking rt_g_slabs, a list of slabs (runtime.h).

import re

import gdb
import gdb.unwinder

# As rt_why_text (runtime/traceback.c), which a core file cannot call.
WAIT_TEXT = {
    "RT_WHY_NONE": "waiting",
    "RT_WHY_CHAN_RECEIVE": "chan receive",
    "RT_WHY_CHAN_RECEIVE_NIL": "chan receive (nil chan)",
    "RT_WHY_CHAN_SEND": "chan send",
    "RT_WHY_CHAN_SEND_NIL": "chan send (nil chan)",
    "RT_WHY_SELECT": "select",
    "RT_WHY_SELECT_NO_CASES": "select (no cases)",
    "RT_WHY_SLEEP": "sleep",
    "RT_WHY_IO": "IO wait",
    "RT_WHY_SEMACQUIRE": "semacquire",
    "RT_WHY_MUTEX": "sync.Mutex.Lock",
    "RT_WHY_RWMUTEX_R": "sync.RWMutex.RLock",
    "RT_WHY_RWMUTEX_W": "sync.RWMutex.Lock",
    "RT_WHY_COND": "sync.Cond.Wait",
    "RT_WHY_ONCE": "sync.Once.Do",
    "RT_WHY_PREEMPTED": "preempted",
    "RT_WHY_BLOCKING": "syscall",
}

# What rt_switch leaves at g->sp, in words from there: register, index.
# Then the size of it all: the stack pointer after the switch (switch_*.S).
SAVED = {
    "i386:x86-64": (
        {"r15": 1, "r14": 2, "r13": 3, "r12": 4, "rbx": 5, "rbp": 6, "rip": 7}, 64, "rip", "rsp"),
    "aarch64": (
        dict([("x29", 0), ("x30", 1), ("pc", 1)] + [("x%d" % (19 + i), 2 + i) for i in range(10)]),
        176, "pc", "sp"),
}

WORD = 8


def enum_name(enum, value):
    """The name of a value of an enum type, as in the source."""
    for field in gdb.lookup_type("enum " + enum).fields():
        if field.enumval == value:
            return field.name
    return str(value)


def read_word(address):
    memory = gdb.selected_inferior().read_memory(address, WORD)
    return int.from_bytes(bytes(memory), "little")


class Goroutine:
    """A copy of what matters in a struct bh_g."""

    def __init__(self, g):
        self.address = int(g.address)
        self.id = int(g["id"])
        self.state = enum_name("rt_g_state", int(g["state"]))
        self.why = enum_name("rt_why", int(g["why"]))
        self.flags = int(g["flags"])
        self.sp = int(g["sp"])
        self.fn = g["fn"]
        self.m = g["m"]
        self.created_by = int(g["created_by"])
        self.created_pc = int(g["created_pc"])
        self.cold = g["cold"]
        self.running = self.state == "RT_G_RUNNING"
        self.started = self.sp != 0 or self.running

    def system(self):
        return self.flags & 8 != 0  # RT_G_SYSTEM

    def text(self):
        if self.running:
            return "syscall" if self.why == "RT_WHY_BLOCKING" else "running"
        if self.state == "RT_G_WAITING":
            return WAIT_TEXT.get(self.why, self.why)
        return self.state[len("RT_G_"):].lower()

    def name(self):
        if int(self.cold) == 0:
            return ""
        try:
            return self.cold.dereference()["name"].string()
        except gdb.error:
            return ""

    def thread(self):
        """The gdb thread it runs on, or None."""
        if not self.running or int(self.m) == 0:
            return None
        tid = int(self.m["tid"])
        for thread in gdb.selected_inferior().threads():
            if thread.ptid[1] == tid:
                return thread
        return None


def goroutines():
    """Every goroutine that is alive, by number."""
    found = []
    try:
        slab = gdb.parse_and_eval("(struct rt_g_slab *)rt_g_slabs")
    except gdb.error:
        raise gdb.GdbError("no rt_g_slabs: not a Bulkhead program, or without debug information")
    while int(slab) != 0:
        for i in range(int(slab["used"])):
            g = slab["g"][i]
            if int(g["id"]) != 0:
                found.append(Goroutine(g))
        slab = slab["next"]
    return sorted(found, key=lambda g: g.id)


def pointer(address):
    return gdb.Value(address).cast(gdb.lookup_type("void").pointer())


class FrameId:
    """Of frame 0, as gdb wants it: newer than every frame of the goroutine."""

    def __init__(self, sp, pc):
        self.sp = pointer(sp)
        self.pc = pointer(pc)


class ParkedUnwinder(gdb.unwinder.Unwinder):
    """While `goroutine` is set: says that frame 0 was called by its parked frame."""

    def __init__(self):
        super().__init__("bulkhead goroutine")
        self.goroutine = None
        self.innermost_sp = 0

    def __call__(self, pending):
        if self.goroutine is None:
            return None
        layout = SAVED.get(pending.architecture().name())
        if layout is None:
            return None
        registers, size, pc_name, sp_name = layout
        sp = self.goroutine.sp
        if int(pending.read_register(sp_name)) != self.innermost_sp:
            return None  # only the innermost frame
        info = pending.create_unwind_info(FrameId(sp, read_word(sp + registers[pc_name] * WORD)))
        for register, index in registers.items():
            info.add_saved_register(register, pointer(read_word(sp + index * WORD)))
        info.add_saved_register(sp_name, pointer(sp + size))
        return info

    def show(self, goroutine):
        """Make the selected thread's stack that goroutine's; None: its own again."""
        self.goroutine = None
        gdb.invalidate_cached_frames()
        if goroutine is not None:
            sp_name = SAVED[gdb.newest_frame().architecture().name()][3]
            self.innermost_sp = int(gdb.newest_frame().read_register(sp_name))
            self.goroutine = goroutine
            gdb.invalidate_cached_frames()


parked = ParkedUnwinder()
gdb.unwinder.register_unwinder(None, parked, True)


def is_machinery(frame):
    """Whether the frame is of the runtime's own sources, libc's, or a signal's."""
    if frame.type() == gdb.SIGTRAMP_FRAME:
        return True
    library = gdb.solib_name(frame.pc())
    if library is not None and re.search(r"/(libc|ld-linux|libpthread)[.-]", library):
        return True
    name = frame.name() or ""
    sal = frame.find_sal()
    path = sal.symtab.fullname() if sal is not None and sal.symtab is not None else ""
    return name.startswith("rt_") or bool(re.search(r"/runtime/(?!\w+_test\.c)\w+\.[cS]$", path))


def place_of_function(address):
    return str(gdb.parse_and_eval("(void *)%d" % int(address)))


def describe(frame):
    sal = frame.find_sal()
    where = ""
    if sal is not None and sal.symtab is not None:
        where = " at %s:%d" % (sal.symtab.filename, sal.line)
    return "%s%s" % (frame.name() or hex(frame.pc()), where)


def place(goroutine):
    """The first frame that is the application's."""
    if not goroutine.started:
        return place_of_function(goroutine.fn)

    def look():
        frame = gdb.newest_frame()
        if not goroutine.running:
            frame = frame.older()
        first = frame
        while frame is not None and frame.is_valid():
            if not is_machinery(frame):
                return describe(frame)
            frame = frame.older()
        return describe(first) if first is not None else "?"

    return inside(goroutine, look)


def inside(goroutine, function):
    """Call function with the goroutine's stack as the selected thread's."""
    before = gdb.selected_thread()
    shown = parked.goroutine
    thread = goroutine.thread()
    try:
        if goroutine.running:
            if thread is None:
                return "?"
            parked.show(None)
            thread.switch()
        else:
            parked.show(goroutine)
        return function()
    finally:
        if before is not None and before.is_valid():
            before.switch()
        parked.show(shown)


def run_command(goroutine, command):
    """One gdb command in the goroutine; the thread's own frame 0 is not shown."""

    def act():
        if goroutine.running:
            gdb.execute(command)
            return
        gdb.newest_frame().older().select()
        text = gdb.execute(command, False, True)
        if re.match(r"(bt|where|backtrace|info stack)\b", command):
            lines = text.splitlines(True)
            if lines and lines[0].startswith("#0"):
                lines = lines[1:]
            text = "".join(re.sub(r"^#(\d+)( ?)", renumber, line) for line in lines)
        gdb.write(text)

    def renumber(match):
        return "#%-*d" % (len(match.group(0)) - 1, int(match.group(1)) - 1)

    if not goroutine.started:
        gdb.write("not started: %s\n" % place_of_function(goroutine.fn))
    elif goroutine.running and goroutine.thread() is None:
        gdb.write("running on a thread that gdb does not see\n")
    else:
        inside(goroutine, act)


class InfoGoroutines(gdb.Command):
    """List goroutines: number, state, name and where the application's code stands.
Usage: info goroutines [all]
With "all", the runtime's own as well."""

    def __init__(self):
        super().__init__("info goroutines", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        for g in goroutines():
            if g.system() and argument.strip() != "all":
                continue
            name = g.name()
            thread = g.thread()
            gdb.write("%s%4d  %-24s %s%s\n" % (
                "*" if thread is not None and thread == gdb.selected_thread() else " ", g.id,
                g.text(), place(g), "  (%s)" % name if name else ""))


class GoroutineCommand(gdb.Command):
    """Run a gdb command in a goroutine, or stay there.
Usage: goroutine NUMBER|all COMMAND ...
       goroutine NUMBER          select it (0: back to the thread)"""

    def __init__(self):
        super().__init__("goroutine", gdb.COMMAND_STACK, gdb.COMPLETE_NONE)

    def invoke(self, argument, from_tty):
        number, _, command = argument.strip().partition(" ")
        command = command.strip()
        if number == "all" and command:
            for g in goroutines():
                gdb.write("\nGoroutine %d (%s):\n" % (g.id, g.text()))
                run_command(g, command)
            return
        if not number.isdigit():
            raise gdb.GdbError("goroutine NUMBER|all COMMAND")
        if int(number) == 0:
            parked.show(None)
            return
        for g in goroutines():
            if g.id == int(number):
                break
        else:
            raise gdb.GdbError("no goroutine %s" % number)
        if command:
            run_command(g, command)
        elif g.running:
            parked.show(None)
            thread = g.thread()
            if thread is None:
                raise gdb.GdbError("running on a thread that gdb does not see")
            thread.switch()
            gdb.execute("frame")
        else:
            parked.show(g)
            gdb.execute("frame 1")


InfoGoroutines()
GoroutineCommand()


def on_stop(_):
    parked.show(None)  # what was shown has moved


gdb.events.cont.connect(on_stop)
