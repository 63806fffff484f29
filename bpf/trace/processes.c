// Processes begin, execute a program and end. Threads of a process are no processes.
//
// Filtered by kind only: every event's ancestry needs them.
#include "filter.h"
#include "owner.h"

static __always_inline struct xg_task_event *reserve(u32 kind)
{
	struct xg_ledger *ledger = ledger_of(kind);
	if (!ledger)
		return 0;
	COUNT(ledger, seen);
	if (!kind_is_wanted(kind)) {
		COUNT(ledger, filtered);
		return 0;
	}
	struct xg_task_event *event = ring_reserve(MAP(XG_MAP_RING), sizeof(*event), 0);
	if (!event) {
		COUNT(ledger, lost_ring);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = kind;
	COUNT(ledger, emitted);
	return event;
}

static __always_inline void fill(struct xg_task_event *event, u64 task)
{
	u64 users = current_users(), parent = FIELD(task, u64, TASK_PARENT);
	event->time = boot_time();
	event->pid = FIELD(task, u32, TASK_TGID);
	event->start_time = start_time_of(task);
	event->parent = FIELD(parent, u32, TASK_TGID);
	event->parent_start_time = start_time_of(parent);
	event->cgroup = cgroup_of(task);
	event->uid = users;
	event->gid = users >> 32;
	current_comm(event->comm, XG_COMM);
}

// In the context of the parent, whose user and name the child still has.
int xdpguard_fork(struct bpf_raw_tracepoint_args *ctx)
{
	u64 child = ctx->args[XG_ARG_SCHED_PROCESS_FORK_CHILD];
	if (FIELD(child, u32, TASK_PID) != FIELD(child, u32, TASK_TGID))
		return 0;
	struct xg_task_event *event = reserve(XG_EV_FORK);
	if (!event)
		return 0;
	fill(event, child);
	ring_submit(event, 0);
	return 0;
}

int xdpguard_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct xg_task_event *event = reserve(XG_EV_EXEC);
	if (!event)
		return 0;
	fill(event, ctx->args[XG_ARG_SCHED_PROCESS_EXEC_P]);
	read_kernel_text(event->path, XG_PATH, FIELD(ctx->args[XG_ARG_SCHED_PROCESS_EXEC_BPRM], u64, BINPRM_FILENAME));
	ring_submit(event, 0);
	return 0;
}

#ifndef XG_ARG_SCHED_PROCESS_EXIT_GROUP_DEAD
// Threads that end at once may all find that none is alive: only one of them is to tell. The table of calls is used
// by threads' numbers else, which no kernel address is like; an address is used again, a start time is not.
static __always_inline int ended_already(u64 task, u64 signal)
{
	struct xg_call end = {.bytes = start_time_of(task)};
	if (!map_update(MAP(XG_MAP_CALLS), &signal, &end, UPDATE_NEW))
		return 0;
	struct xg_call *former = map_lookup(MAP(XG_MAP_CALLS), &signal);
	if (former && former->bytes == end.bytes)
		return 1;
	map_update(MAP(XG_MAP_CALLS), &signal, &end, UPDATE_ANY);
	return 0;
}
#endif

// Its argument `group_dead` is new in Linux 6.16: this is the last thread.
int xdpguard_exit(struct bpf_raw_tracepoint_args *ctx)
{
	u64 task = ctx->args[XG_ARG_SCHED_PROCESS_EXIT_P];
#ifdef XG_ARG_SCHED_PROCESS_EXIT_GROUP_DEAD
	if (!(u8)ctx->args[XG_ARG_SCHED_PROCESS_EXIT_GROUP_DEAD])
		return 0;
#else
	u64 signal = FIELD(task, u64, TASK_SIGNAL);
	if (FIELD(signal, u32, SIGNAL_LIVE) || ended_already(task, signal))
		return 0;
#endif
	struct xg_task_event *event = reserve(XG_EV_EXIT);
	if (!event)
		return 0;
	fill(event, task);
	ring_submit(event, 0);
	return 0;
}
