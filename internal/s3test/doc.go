// Package s3test gives tests a real S3 server, and a proxy in front of it that
// is slow, fails or is down on demand. tools/need versitygw gets the server.
//
// All tests of a process share one server, each with a bucket of its own. It
// ends, and its directory goes, with the test process, however that ends.
package s3test
