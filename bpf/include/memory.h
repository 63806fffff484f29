// How the programs reach their maps and the blob. Included by every header below it, and by the programs.
//
// No map is declared here: user space makes them by bpf(2) and patches these placeholders in the kept bytecode
// (xdpguard/kernel/program.py). bpf_pseudo_fd(1, N) becomes a map, (2, N) a map's first value, (0, N) a number.
#ifndef XDPGUARD_MEMORY_H
#define XDPGUARD_MEMORY_H

#include "abi.h"

#define XG_MAP_CONTROL 0x7e000001  // ARRAY of one struct xg_control, mmapable
#define XG_MAP_BLOBS 0x7e000002    // ARRAY_OF_MAPS: slot -> ARRAY of one blob, mmapable; written by user space only
#define XG_MAP_COUNTERS 0x7e000003 // ARRAY_OF_MAPS: slot -> ARRAY, key CPU, value struct xg_count[]; written here
#define XG_MAP_TARGETS 0x7e000004  // DEVMAP_HASH: ifindex -> ifindex of redirect targets
#define XG_NUMBER_BLOB_MASK 0x7e000011    // bytes of a blob - 8: keeps an offset inside and 8-byte aligned
#define XG_NUMBER_COUNTER_MASK 0x7e000012 // counters of a CPU - 1
#define XG_NUMBER_FLAGS 0x7e000013        // XG_FLAG_* of the interface

#define MAP(n) ((void *)bpf_pseudo_fd(1, n))
#define NUMBER(n) ((u64)bpf_pseudo_fd(0, n))

// The plain helpers: BCC's own forms want its map declarations.
static void *(*map_lookup)(void *map, void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*redirect_map)(void *map, u64 key, u64 flags) = (void *)BPF_FUNC_redirect_map;

static __always_inline void *map_at(void *map, u32 key)
{
	return map_lookup(map, &key);
}

// A packet pointer read anew from the context. Volatile, so that clang does not reuse an earlier one: how far that
// was checked differs from way to way through the parser, and the verifier would keep them apart.
#define FRESH(field) ((u8 *)(long)*(volatile u32 *)&(field))

// Adding a zero that the verifier cannot know makes a value unknown to it. Ways through the program that differ
// only in such values look alike to it, and what follows is checked once, not once a way. The empty assembly
// keeps clang from moving the addition to where the value is used.
#define HIDE(value, zero)                            \
	do {                                         \
		(value) += (zero);                   \
		asm volatile("" : "+r"(value));      \
	} while (0)

// One generation's tables. Every load is masked, so that a wrong offset reads a wrong value but never outside.
struct blob {
	u8 *base;
	u64 mask;
};

static __always_inline u64 load64(struct blob b, u64 offset)
{
	return *(u64 *)(b.base + (offset & b.mask));
}
static __always_inline u32 load32(struct blob b, u64 offset)
{
	return *(u32 *)(b.base + (offset & (b.mask | 4)));
}
static __always_inline u16 load16(struct blob b, u64 offset)
{
	return *(u16 *)(b.base + (offset & (b.mask | 6)));
}

#endif
