import "./doorbells_test.ts";
import "./forms_test.ts";
import "./killed_test.ts";
import "./kinds_test.ts";
import "./lies_test.ts";
import "./storm_test.ts";
import "./traffic_test.ts";
