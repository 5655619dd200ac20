package monitor

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What every program reports of itself, under the names that Prometheus's own
// libraries have for it.
var (
	goroutines = &metric{"go_goroutines", gauge, "Number of goroutines that exist.", nil}
	goInfo     = &metric{"go_info", gauge, "The version of Go, as a label; always 1.", []string{"version"}}
	heapBytes  = &metric{"go_memstats_heap_alloc_bytes", gauge, "Bytes on the heap that are in use.", nil}
	sysBytes   = &metric{"go_memstats_sys_bytes", gauge, "Bytes that were taken from the system.", nil}
	cpuSeconds = &metric{"process_cpu_seconds_total", counter, "Processor time, of the program and of the system for it.", nil}
	openFDs    = &metric{"process_open_fds", gauge, "Number of open file descriptors.", nil}
	maxFDs     = &metric{"process_max_fds", gauge, "Number of file descriptors that may be open.", nil}
	resident   = &metric{"process_resident_memory_bytes", gauge, "Memory that is in use.", nil}
	startTime  = &metric{"process_start_time_seconds", gauge, "When the program was started, in seconds since 1970.", nil}
)

// process adds what the system knows of this process. What cannot be had is left
// out: outside of Linux that is what is read from /proc.
func (p *page) process(began time.Time) {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	p.add(goroutines, float64(runtime.NumGoroutine()))
	p.add(goInfo, 1, runtime.Version())
	p.add(heapBytes, float64(memory.HeapAlloc))
	p.add(sysBytes, float64(memory.Sys))
	p.add(startTime, seconds(began))
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) == nil {
		p.add(cpuSeconds, time.Duration(used.Utime.Nano()+used.Stime.Nano()).Seconds())
	}
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		p.add(maxFDs, float64(files.Cur))
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		p.add(openFDs, float64(len(fds)-1)) // one is that of the directory
	}
	if pages, err := residentPages(); err == nil {
		p.add(resident, float64(pages*os.Getpagesize()))
	}
}

func residentPages() (int, error) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(statm))
	return strconv.Atoi(fields[1])
}
