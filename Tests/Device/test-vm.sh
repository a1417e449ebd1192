# The virtual machine itself: what is proven in it is worth as much as it is.
# time limit: 120
. "$(dirname "$0")/lib.sh"

# QEMU before 8.1 dies of this within seconds when it emulates each processor in a thread of its own: a static key is
# switched, which patches the kernel's text, while both processors run through that text.
t_a_kernel_that_patches_itself_under_load_for_30_s_runs_on() {
  local key=/proc/sys/kernel/sched_schedstats before end=$((SECONDS + 30)) switches=0 i
  [ -w $key ] || skip "this kernel has no $key"
  before=$(<$key)
  for i in 1 2; do
    while :; do
      dd if=/dev/zero of=/dev/null bs=4k count=100 status=none
      ls / >/dev/null
    done &
  done
  while [ $SECONDS -lt $end ]; do
    echo 1 >$key
    echo 0 >$key
    switches=$((switches + 2))
  done
  echo "$before" >$key
  [ $switches -gt 100 ] || fail "only $switches switches"
}

run_cases "$@"
