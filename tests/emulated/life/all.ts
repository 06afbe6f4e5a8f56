import "./after_close_test.ts";
import "./control_test.ts";
import "./host_gone_test.ts";
import "./leaks_test.ts";
import "./polls_test.ts";
import "./removal_test.ts";
import "./turns_test.ts";
import "./unreadable_options_test.ts";
