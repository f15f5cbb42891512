"""What tests of pipelines run beside themselves: servers, toolkits and a browser, in environments of their own."""
