// Reading the kernel's own structs, whose fields are found by offsets from BTF, and the helpers for that.
#ifndef XDPGUARD_KERNEL_H
#define XDPGUARD_KERNEL_H

#include "events.h"
#include "memory.h"

static long (*map_update)(void *map, void *key, void *value, u64 flags) = (void *)BPF_FUNC_map_update_elem;
static long (*map_delete)(void *map, void *key) = (void *)BPF_FUNC_map_delete_elem;
static u64 (*current_ids)(void) = (void *)BPF_FUNC_get_current_pid_tgid;
static u64 (*current_users)(void) = (void *)BPF_FUNC_get_current_uid_gid;
static long (*current_comm)(void *to, u32 size) = (void *)BPF_FUNC_get_current_comm;
static u64 (*current_task)(void) = (void *)BPF_FUNC_get_current_task;
// BCC's own forms of these helpers are macros or of other types.
static long (*read_user)(void *to, u32 size, u64 from) = (void *)112;       // bpf_probe_read_user
static long (*read_kernel)(void *to, u32 size, u64 from) = (void *)113;     // bpf_probe_read_kernel
static long (*read_kernel_text)(void *to, u32 size, u64 from) = (void *)115; // bpf_probe_read_kernel_str
static u64 (*boot_time)(void) = (void *)125;                                // bpf_ktime_get_boot_ns
static void *(*ring_reserve)(void *ring, u64 size, u64 flags) = (void *)131; // bpf_ringbuf_reserve
static void (*ring_submit)(void *record, u64 flags) = (void *)132;          // bpf_ringbuf_submit

#define UPDATE_ANY 0
#define UPDATE_NEW 1 // BPF_NOEXIST

// The registers at a kprobe, whose order kernel/probes.py knows: -DXG_REGISTER_FIRST=N and so on.
struct xg_registers {
	u64 at[64];
};
#define ARGUMENT(ctx, which) ((ctx)->at[XG_REGISTER_##which])

// What cannot be read is zero: the helper sees to that.
static __always_inline u64 read_field(u64 address, u64 offset, u32 size)
{
	u64 value = 0;
	read_kernel(&value, size, address + offset);
	return value;
}

// A field of up to 8 bytes. NAME: an XG_NUMBER_ of an offset.
#define FIELD(address, type, NAME) ((type)read_field(address, NUMBER(XG_NUMBER_##NAME), sizeof(type)))

static __always_inline u32 swap16(u32 value)
{
	return (value & 0xff) << 8 | (value >> 8 & 0xff);
}

#endif
