# ckpt - an embeddable checkpoint runtime.   make help

VERSION := $(shell sed -n 's/^.define CKPT_VERSION "\(.*\)"/\1/p' runtime/include/ckpt/ckpt.h)
SONAME  := libckpt.so.0

prefix     ?= /usr/local
bindir     ?= $(prefix)/bin
libdir     ?= $(prefix)/lib
includedir ?= $(prefix)/include
lualibdir  ?= $(libdir)/lua/5.4
datadir    ?= $(prefix)/share/ckpt

B        ?= build
CC       ?= gcc
LUA      ?= lua5.4
CFLAGS   ?= -O2 -g
SANITIZE ?=

PACKAGES   := lua5.4 libzip libcrypto libdeflate jansson libarchive
LUA_CFLAGS := $(shell pkg-config --cflags lua5.4 2>/dev/null)
LIBS       := -lzip -lcrypto -ldeflate -ljansson -larchive -lm -lpthread
LUA_LIBS   := -llua5.4

WARNINGS := -Wall -Wextra -Wshadow -Wundef -Wvla -Wwrite-strings -Wmissing-prototypes -Wstrict-prototypes \
            -Wpointer-arith -Wcast-qual -Wconversion $(if $(CI),-Werror)
override CFLAGS += -std=c11 -D_GNU_SOURCE $(WARNINGS) -fPIC -fvisibility=hidden -MMD -MP $(SANITIZE) \
                   -Iruntime/include -Ibindings/include -Iruntime -Ibindings $(LUA_CFLAGS)

RUNTIME  := $(patsubst %.c,$(B)/obj/%.o,$(wildcard runtime/*.c))
BINDINGS := $(patsubst %.c,$(B)/obj/%.o,$(filter-out bindings/main.c bindings/host%,$(wildcard bindings/*.c)))
POLICIES := $(filter-out policies/types.lua,$(wildcard policies/*.lua policies/*/*.lua))
SCRIPTS  := $(wildcard scripts/*.lua scripts/cli/*.lua)
LUA_SHARE := /usr/share/lua/5.4
HOST     := $(patsubst %.c,$(B)/obj/%.o,$(wildcard bindings/host*.c)) # of the executable alone
LIBRARY  := $(RUNTIME) $(BINDINGS) $(B)/obj/embedded_policies.o
TRAINER  := $(wildcard tests/trainer/*.c)
C_TESTS  := $(patsubst tests/c/%.c,$(B)/tests/%,$(wildcard tests/c/test_*.c))
HEADERS  := runtime/include/ckpt/ckpt.h bindings/include/ckpt/checkpointer.h

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all help deps run test test-c test-lua test-e2e check-graphs check-big check-keeping lint format asan check-asan \
        tsan check-tsan install uninstall check-install print-installed test-units bench bench-align clean \
        fuzz fuzzers fuzz-asan fuzz-msan fuzz-cov check-corpus fuzz-coverage check-splice check-flips \
        check-power check-race check-kills check-crash

all: $(B)/libckpt.a $(B)/$(SONAME) $(B)/libckpt.so $(B)/ckpt.so $(B)/ckpt $(B)/trainer $(B)/graphs

help:
	@echo 'make               build everything under build/'
	@echo 'make deps          install the Debian packages that are missing (apt-get, sudo when not root)'
	@echo 'make run           the example: train on real digits, killed twice, resumed, best kept; then its checkpoints'
	@echo 'make test          all tests'
	@echo 'make check-graphs  N=10000 random object graphs each way between ckpt and Python, from seed SEED=1 on'
	@echo 'make check-big     a state dict of BIG=10000 MB renamed, permuted and cast with less than 200 MB of memory'
	@echo 'make check-keeping N=10000 random metric logs under random policies, from seed SEED=1 on'
	@echo 'make lint          luacheck, clang-format, clang-tidy, cppcheck, headers alone under strict flags'
	@echo 'make asan          everything under AddressSanitizer and UBSan in build/asan; make check-asan tests it'
	@echo 'make fuzz          every fuzz target for TIME=60 seconds; TARGETS="fuzz_pickle ..." chooses, KEEP=1 keeps what was learnt'
	@echo 'make check-corpus  seeds and corpus once through every target, under ASan+UBSan and MSan; fuzz-coverage measures it'
	@echo 'make check-splice  seeds cut and overwritten at every byte, LOADS=100000 of them; check-flips: every bit of a file'
	@echo 'make check-power   power cut at every flush of a run on a real file system (FS=ext4, xfs, btrfs); root, loop devices'
	@echo 'make check-race    OPENS=50000 checkpoints opened while they are saved, aliased, retired; then under ThreadSanitizer'
	@echo 'make check-kills   KILLS=10000 SIGKILLs at random moments of a training run, which must end with the same bits'
	@echo 'make check-crash   killed before every call, every error at every call, full disks, names swapped by an attacker'
	@echo 'make tsan          everything under ThreadSanitizer in build/tsan; make check-tsan tests what uses threads'
	@echo 'make install       into prefix ($(prefix)), below DESTDIR; uninstall takes it away; check-install tests both'
	@echo 'make bench         ours beside PyTorch and the raw limits of the machine; BENCH_PYTHON=..., BENCH_ARGS=--help'
	@echo 'make bench-align   time of suffix alignment at 1k, 3k, 10k, 30k keys beside the quadratic reference'
	@echo 'make clean         remove build/'

# ---- dependencies: what is missing is installed, with a word about it ----

DEBIAN := pkg-config liblua5.4-dev lua5.4 libzip-dev libssl-dev libdeflate-dev libjansson-dev libarchive-dev \
          libcmocka-dev lua-busted lua-check lua-argparse lua-dkjson perl python3
deps:
	@sh scripts/build/deps.sh $(DEBIAN)

# `make run` and `make test` on a fresh machine: first the packages, then a second make that sees them.
run: deps
	@$(MAKE) --no-print-directory all
	@CKPT=$(B)/ckpt TRAINER=$(B)/trainer bash tests/trainer/demo.sh

test: deps
	@$(MAKE) --no-print-directory all
	@B=$(B) bash tests/run.sh c lua e2e

# ---- products ----

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c $< -o $@

$(B)/obj/embedded_policies.c: $(POLICIES) scripts/build/embed.lua
	@mkdir -p $(@D)
	$(LUA) scripts/build/embed.lua ckpt_embedded_files $(foreach f,$(POLICIES),$(f)=$(f)) > $@

$(B)/obj/embedded_scripts.c: $(SCRIPTS) scripts/build/embed.lua
	@mkdir -p $(@D)
	$(LUA) scripts/build/embed.lua ckpt_embedded_scripts $(foreach f,$(SCRIPTS),$(f)=$(f)) \
	  argparse.lua=$(LUA_SHARE)/argparse.lua dkjson.lua=$(LUA_SHARE)/dkjson.lua > $@

$(B)/obj/embedded_%.o: $(B)/obj/embedded_%.c
	$(CC) $(CFLAGS) -c $< -o $@

$(B)/libckpt.a: $(LIBRARY)
	@rm -f $@
	ar rcs $@ $^

$(B)/$(SONAME): $(LIBRARY)
	$(CC) $(SANITIZE) $(LDFLAGS) -shared -Wl,-soname,$(SONAME) -Wl,--no-undefined -o $@ $^ $(LUA_LIBS) $(LIBS)

$(B)/libckpt.so: $(B)/$(SONAME)
	ln -sf $(SONAME) $@

# The Lua module is not linked with Lua: its host provides it. nodelete keeps sanitizer reports readable.
$(B)/ckpt.so: $(LIBRARY)
	$(CC) $(SANITIZE) $(LDFLAGS) -shared -Wl,-z,nodelete -o $@ $^ $(LIBS)

$(B)/ckpt: $(B)/obj/bindings/main.o $(HOST) $(B)/obj/embedded_scripts.o $(B)/libckpt.a
	$(CC) $(SANITIZE) $(LDFLAGS) -Wl,-E -o $@ $^ $(LUA_LIBS) $(LIBS)

$(B)/trainer: $(patsubst %.c,$(B)/obj/%.o,$(TRAINER)) $(B)/libckpt.a
	$(CC) $(SANITIZE) $(LDFLAGS) -Wl,--wrap=fsync -o $@ $^ $(LUA_LIBS) $(LIBS)

# ---- tests ----

# Random metric logs under random policies; `make test` does 10000 from seed 1 on.
check-keeping: all
	@KEEPING_RUNS=$(N) KEEPING_SEED=$(SEED) LUA_PATH="$$PWD/?.lua;$$PWD/tests/lua/?.lua;;" LUA_CPATH="$(abspath $(B))/?.so;;" \
	  $(LUA) /usr/bin/busted -o TAP tests/lua/keeping_property_spec.lua

# Random object graphs, to and from Python's pickler: N each way, from seed SEED on; a tenth of that through whole files.
N    ?= 10000
SEED ?= 1
check-graphs: $(B)/graphs $(B)/ckpt
	@python3 -B tests/graphs/graphs.py $(B)/graphs --count $(N) --seed $(SEED)
	@python3 -B tests/graphs/lua_graphs.py $(B)/ckpt --count $$(($(N) / 10)) --seed $(SEED)
	@python=python3; python3 -c 'import torch' 2> /dev/null || python=/usr/bin/python3; \
	  if ! $$python -c 'import torch' 2> /dev/null; then echo 'no torch: its files are skipped'; exit 0; fi; \
	  $$python -B tests/graphs/torch_graphs.py $(B)/ckpt --count $$(($(N) / 10)) --seed $(SEED)

$(B)/graphs: $(patsubst %.c,$(B)/obj/%.o,$(wildcard tests/graphs/*.c)) $(B)/libckpt.a
	$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LIBS)

BIG ?= 10000
check-big: $(B)/ckpt
	@CKPT_TOP=$(CURDIR) CKPT=$(abspath $(B))/ckpt bash tests/big/check_big.sh $(BIG)

# Hostile files: what load.c does with each is what its table says (tests/hostile, run by tests/e2e/hostile.sh).
$(B)/hostile_%: $(B)/obj/tests/hostile/%.o $(B)/libckpt.a
	$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LIBS)

# Power loss on a real file system: a saver whose disk is logged, and the replay of the log (tests/power/run.sh).
# FS=xfs, btrfs; POWER_SUBSETS, POWER_ROUNDS for more states.
POWER_STATES ?= 1000
POWER_PARTS   = $(patsubst %,$(B)/obj/tests/power/%.o,$(1)) $(B)/libckpt.a
check-power: $(B)/power_saver $(B)/power_replay
	@sh scripts/build/deps.sh qemu-system-common e2fsprogs util-linux mount
	@B=$(B) POWER_STATES=$(POWER_STATES) bash tests/power/run.sh
$(B)/power_saver: $(call POWER_PARTS,saver scenario tables)
	$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LUA_LIBS) $(LIBS)
$(B)/power_replay: $(call POWER_PARTS,replay scenario tables check disk log)
	$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LUA_LIBS) $(LIBS)

# A trainer killed KILLS times at random moments, and the bits that it ends with.
KILLS ?= 10000
check-kills: $(B)/trainer
	@TRAINER=$(B)/trainer bash tests/trainer/kill_many.sh $(KILLS)

# Readers, writers and removers of one run's directory at once (tests/race/race.c), then under ThreadSanitizer.
OPENS ?= 50000
$(B)/race: $(patsubst %.c,$(B)/obj/%.o,$(wildcard tests/race/*.c)) $(B)/libckpt.a
	$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LUA_LIBS) $(LIBS)
check-race: $(B)/race
	@+$(MAKE) --no-print-directory B=$(B)/tsan SANITIZE='$(TSAN)' $(B)/tsan/race
	@B=$(B) OPENS=$(OPENS) bash tests/race/run.sh

test-c: $(C_TESTS)

# Flags that one test needs stand in its first line: // LDFLAGS: ...
$(B)/tests/%: tests/c/%.c $(B)/libckpt.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MF $@.d $(LDFLAGS) -o $@ $< $(B)/libckpt.a -lcmocka $(LUA_LIBS) $(LIBS) \
	  $$(sed -n '1s|^// LDFLAGS: ||p' $<)

ASAN := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
asan:
	@$(MAKE) --no-print-directory B=$(B)/asan SANITIZE='$(ASAN)' all

check-asan: asan
	@B=$(B)/asan SANITIZED=1 SANITIZE='$(ASAN)' bash tests/run.sh c lua e2e

# ---- fuzzing: every tests/fuzz/fuzz_*.c is a target, any other .c there but replay.c is a part of all ----

FUZZERS    := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_PARTS := $(filter-out tests/fuzz/fuzz_%.c tests/fuzz/replay.c,$(wildcard tests/fuzz/*.c))
FUZZ_MAIN  ?= tests/fuzz/replay.c
FUZZ_ASAN  := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
FUZZ_MSAN  := -fsanitize=memory -fsanitize-memory-track-origins -fno-omit-frame-pointer
FUZZ_COV   := -fprofile-instr-generate -fcoverage-mapping
FUZZ_MAKE   = $(MAKE) --no-print-directory CC=clang CFLAGS='-O2 -g'
TIME       ?= 60
JOBS       ?= 1

# Called with B, SANITIZE and FUZZ_LINK of one of the builds below.
fuzzers: $(addprefix $(B)/,$(FUZZERS))
$(B)/fuzz_%: $(B)/obj/tests/fuzz/fuzz_%.o $(patsubst %.c,$(B)/obj/%.o,$(FUZZ_PARTS) $(FUZZ_MAIN)) $(B)/libckpt.a
	$(CC) $(SANITIZE) $(FUZZ_LINK) -o $@ $^ $(LUA_LIBS) $(LIBS)

fuzz-asan:
	+@$(FUZZ_MAKE) B=$(B)/fuzz/asan SANITIZE='$(FUZZ_ASAN)' FUZZ_LINK=-fsanitize=fuzzer FUZZ_MAIN= fuzzers
fuzz-msan:
	+@$(FUZZ_MAKE) B=$(B)/fuzz/msan SANITIZE='$(FUZZ_MSAN)' fuzzers
fuzz-cov:
	+@$(FUZZ_MAKE) B=$(B)/fuzz/cov SANITIZE='$(FUZZ_COV)' fuzzers

fuzz: fuzz-asan
	@F=$(B)/fuzz TIME=$(TIME) JOBS=$(JOBS) bash tests/fuzz/run.sh fuzz
check-corpus: fuzz-asan fuzz-msan
	@F=$(B)/fuzz bash tests/fuzz/run.sh replay
fuzz-coverage: fuzz-cov
	@F=$(B)/fuzz bash tests/fuzz/run.sh coverage

$(B)/fuzz/asan/hostile_mutate: fuzz-asan
	+@$(FUZZ_MAKE) B=$(B)/fuzz/asan SANITIZE='$(FUZZ_ASAN)' $@

# T12: seeds cut and overwritten, under sanitizers; LOADS=0 takes every cut and every byte. T9: bit flips, every FLIPth.
SEEDS := $(addprefix tests/data/,old/bare_protocol0.pkl old/bare_protocol2.pkl old/bare_protocol5.pkl old/inline_protocol2.pkl \
           old/legacy_protocol0.pth old/legacy_protocol4.pth old/two_saves.pth old/python2.pth old/views.pth old/tar.pth \
           safetensors/names.safetensors safetensors/dtypes.safetensors safetensors/metadata.safetensors values.pth module.pth \
           inside_quantized.pth inside_numpy.pth inside_objects.pth inside_devices.pth dcp/sharded.pth safetensors/dtypes.pth \
           inside_torch.pth inside_numpy1.pth inside_numpy5.pth)
LOADS ?= 0
FLIP  ?= 1
check-splice: $(B)/fuzz/asan/hostile_mutate
	$(B)/fuzz/asan/hostile_mutate splice $(LOADS) $(SEEDS)

check-flips: $(B)/hostile_mutate
	@mkdir -p $(B)/fuzz
	$(B)/hostile_mutate flip $(FLIP) $(B)/fuzz/flip.pth

# The C tests that use threads, and what saves and loads in threads, under ThreadSanitizer.
TSAN    := -fsanitize=thread -fno-omit-frame-pointer
THREADS := test_align test_async test_parallel test_direct test_zip_read test_tensor test_lazy test_save test_publish test_publish_faults test_pth
tsan:
	@$(MAKE) --no-print-directory B=$(B)/tsan SANITIZE='$(TSAN)' all

check-tsan: tsan
	@SANITIZE='$(TSAN)' bash tests/threads.sh $(B)/tsan $(THREADS)

# Kills, faults, full disks and attackers on the real kernel (tests/crash): T1, T2, T3, T13.
check-crash: $(B)/crash
	@$(MAKE) --no-print-directory B=$(B)/asan SANITIZE='$(ASAN)' $(B)/asan/crash
	@B=$(abspath $(B)) bash tests/crash/run.sh kill.sh strace.sh errors.sh errors_asan.sh full.sh symlinks.sh

$(B)/crash: $(patsubst %.c,$(B)/obj/%.o,$(wildcard tests/crash/*.c)) $(B)/libckpt.a
	$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LUA_LIBS) $(LIBS)

# Ours, PyTorch and the machine, alternating (tests/bench/README.md). BENCH_MB: size of the VGG16; BENCH_RUNS: of each row.
BENCH_PYTHON ?= /usr/bin/python3
bench:
	@sh scripts/build/deps.sh $(DEBIAN) python3-torch valgrind
	@$(MAKE) --no-print-directory all $(B)/bench
	@B=$(B) BENCH_PYTHON=$(BENCH_PYTHON) $(LUA) tests/bench/bench.lua $(BENCH_ARGS)

bench-align: $(B)/bench
	@$(LUA) tests/bench/align.lua $(B)/bench

$(B)/bench: $(patsubst %.c,$(B)/obj/%.o,$(wildcard tests/bench/*.c)) $(B)/libckpt.a
	$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LUA_LIBS) $(LIBS)

lint:
	@B=$(B) CC=$(CC) bash tests/lint.sh

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

# ---- installation ----

INSTALLED = $(includedir)/ckpt/ckpt.h $(includedir)/ckpt/checkpointer.h $(libdir)/libckpt.a $(libdir)/$(SONAME) \
            $(libdir)/libckpt.so $(libdir)/pkgconfig/ckpt.pc $(lualibdir)/ckpt.so $(bindir)/ckpt \
            $(addprefix $(datadir)/,$(POLICIES) policies/types.lua)

$(B)/ckpt.pc: Makefile runtime/include/ckpt/ckpt.h
	@mkdir -p $(@D)
	@printf '%s\n' 'prefix=$(prefix)' 'includedir=$(includedir)' 'libdir=$(libdir)' '' 'Name: ckpt' \
	  'Description: checkpoints for C training programs, with Lua policies' 'Version: $(VERSION)' \
	  'Cflags: -I$${includedir}' 'Libs: -L$${libdir} -lckpt' 'Requires.private: $(PACKAGES)' \
	  'Libs.private: -lm -lpthread' > $@

# ckpt.pc is made for the prefix of this very call.
install: all
	@rm -f $(B)/ckpt.pc
	@$(MAKE) --no-print-directory $(B)/ckpt.pc
	install -d $(addprefix $(DESTDIR),$(sort $(dir $(INSTALLED))))
	install -m 644 $(HEADERS) $(DESTDIR)$(includedir)/ckpt/
	install -m 644 $(B)/libckpt.a $(DESTDIR)$(libdir)/
	install -m 755 $(B)/$(SONAME) $(DESTDIR)$(libdir)/
	ln -sf $(SONAME) $(DESTDIR)$(libdir)/libckpt.so
	install -m 644 $(B)/ckpt.pc $(DESTDIR)$(libdir)/pkgconfig/
	install -m 755 $(B)/ckpt.so $(DESTDIR)$(lualibdir)/
	install -m 755 $(B)/ckpt $(DESTDIR)$(bindir)/
	for f in $(POLICIES) policies/types.lua; do install -m 644 $$f $(DESTDIR)$(datadir)/$$f || exit 1; done

uninstall:
	rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	-rmdir -p --ignore-fail-on-non-empty $(addprefix $(DESTDIR),$(datadir)/policies/maps $(includedir)/ckpt) 2>/dev/null

print-installed:
	@echo $(INSTALLED)

check-install: all
	@B=$(B) INSTALLED='$(INSTALLED)' bash tests/check_install.sh

clean:
	rm -rf build

-include $(wildcard $(B)/obj/*.d $(B)/obj/*/*.d $(B)/obj/*/*/*.d $(B)/tests/*.d)
