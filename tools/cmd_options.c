/* SPDX-License-Identifier: Apache-2.0 */
/* varve options: the library's own table of store options, so that --set can be used without other documentation. */
#include <stdio.h>

#include "cli.h"
#include "commands.h"
#include "json.h"

static const char description[] = "List the options of a store: what --set NAME=VALUE of the other commands takes.\n";

static const char examples[] =
    "  varve options\n"
    "      names, types, defaults and what they do; * marks those that may change while open\n"
    "  varve replay chat.jsonl --dir /tmp/kv --set io_engine=threads --set direct_io=off\n"
    "      use two of them\n";

static void
print_json(const varve_option_desc *option)
{
    struct json_writer json = json_begin(stdout);

    json_put_text(&json, "name", option->name);
    json_put_text(&json, "type", option->type);
    json_put_text(&json, "default", option->default_value);
    json_put_u64(&json, "live", option->live != 0);
    json_put_text(&json, "help", option->help);
    json_end(&json);
}

int
cmd_options(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {
        {"json", CLI_FLAG, &json, NULL, "print one JSON object an option", 0, 0, 'j'},
    };
    const struct cli_spec spec = {"options", "", description, examples, options, 1, 0, 0, false};
    const varve_option_desc *option;
    int exit_code;

    if (!cli_parse(&spec, &argc, &argv, &exit_code))
        return exit_code;
    for (size_t i = 0; (option = varve_option_describe(i)) != NULL; i++) {
        if (json)
            print_json(option);
        else
            (void)printf("%s%s = %s   (%s)\n    %s\n", option->name, option->live ? "*" : "", option->default_value,
                         option->type, option->help);
    }
    return cli_flush(CLI_EXIT_OK);
}
