// Who is at work: the current process, captured in its own context. Must never be asked in a softirq.
#ifndef XDPGUARD_OWNER_H
#define XDPGUARD_OWNER_H

#include "filter.h"

#define PF_KTHREAD 0x00200000 // include/linux/sched.h

// The cgroup's id: the inode of its directory. 0 where the task's cgroup cannot be read.
static __always_inline u64 cgroup_of(u64 task)
{
	u64 place = read_field(FIELD(task, u64, TASK_CGROUPS), NUMBER(XG_NUMBER_CSS_SET_SLOT), 8);
	if (NUMBER(XG_NUMBER_CGROUP_V1))
		place = FIELD(place, u64, CSS_CGROUP);
	return FIELD(FIELD(place, u64, CGROUP_NODE), u64, NODE_ID);
}

// With the process's number it names the process for ever.
static __always_inline u64 start_time_of(u64 task)
{
	return FIELD(FIELD(task, u64, TASK_LEADER), u64, TASK_START);
}

// Made by the kernel for itself. Subflows of MPTCP are made so too, but hold their network namespace as a user's
// socket does; so does what NFS makes nowadays, and is used by kernel threads.
static __always_inline int is_kernel_socket(u64 sk)
{
	return !(FIELD(sk, u8, SOCK_REFCNT) & NUMBER(XG_NUMBER_SOCK_REFCNT_MASK));
}

// `attribution`: if it is a process. Of one that the filter rejects no more is captured than it takes to reject it,
// unless the map of owners is kept too.
static __always_inline void capture(struct xg_owner *owner, u64 sk, u32 attribution)
{
	u64 task = current_task(), ids = current_ids(), users = current_users();
	__builtin_memset(owner, 0, sizeof(*owner));
	if (FIELD(task, u32, TASK_FLAGS) & PF_KTHREAD || is_kernel_socket(sk)) {
		owner->attribution = XG_BY_KERNEL;
		return;
	}
	owner->attribution = attribution;
	owner->pid = ids >> 32;
	owner->tid = ids;
	owner->uid = users;
	owner->gid = users >> 32;
	if (!NUMBER(XG_NUMBER_OWNERS) && !process_is_wanted(owner->pid, owner->uid))
		return;
	owner->start_time = start_time_of(task);
	owner->cgroup = cgroup_of(task);
	current_comm(owner->comm, XG_COMM);
}

#endif
