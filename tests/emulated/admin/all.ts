import "./driver_commands_test.ts";
import "./example_test.ts";
import "./killed_test.ts";
import "./lies_test.ts";
import "./queues_test.ts";
import "./thousand_test.ts";
import "./vanish_test.ts";
