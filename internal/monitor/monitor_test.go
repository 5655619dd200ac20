package monitor

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(prometheus.NewRegistry())
	if err != nil || len(problems) != 0 {
		t.Error(problems, err)
	}
}
