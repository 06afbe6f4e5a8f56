import "./kill_test.ts";
import "./platform_host_test.ts";
import "./vf_token_test.ts";
import "./vfio_user_host_test.ts";
