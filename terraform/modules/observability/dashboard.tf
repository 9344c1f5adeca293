# One dashboard: is it used, is it healthy, does anything wait.

locals {
  # Each row of widgets: title, unit of the axis, and metrics as CloudWatch writes them.
  widgets = [
    {
      title   = "Requests and errors"
      stat    = "Sum"
      metrics = [for metric in ["Count", "4xx", "5xx"] : ["AWS/ApiGateway", metric, "ApiId", var.api_id]]
    },
    {
      title   = "Latency of the API, ms (p50, p99)"
      stat    = "p50"
      metrics = [["AWS/ApiGateway", "Latency", "ApiId", var.api_id], ["AWS/ApiGateway", "Latency", "ApiId", var.api_id, { stat = "p99" }]]
    },
    {
      title   = "Calls of functions"
      stat    = "Sum"
      metrics = [for function in values(var.functions) : ["AWS/Lambda", "Invocations", "FunctionName", function]]
    },
    {
      title   = "Errors of functions"
      stat    = "Sum"
      metrics = [for function in values(var.functions) : ["AWS/Lambda", "Errors", "FunctionName", function]]
    },
    {
      title   = "Duration of functions, ms (p99)"
      stat    = "p99"
      metrics = [for function in values(var.functions) : ["AWS/Lambda", "Duration", "FunctionName", function]]
    },
    {
      title   = "Concurrent executions"
      stat    = "Maximum"
      metrics = [for function in values(var.functions) : ["AWS/Lambda", "ConcurrentExecutions", "FunctionName", function]]
    },
    # The namespace in which the functions themselves count; it is one per account and region.
    {
      title   = "Cold starts"
      stat    = "Sum"
      metrics = [for name in keys(var.functions) : ["moola", "ColdStarts", "function", name]]
    },
    {
      title   = "Events that failed"
      stat    = "Sum"
      metrics = [for name in keys(var.dead_letter_queues) : ["moola", "EventsFailed", "function", name]]
    },
    {
      title   = "Dead letters"
      stat    = "Maximum"
      metrics = [for queue in values(var.dead_letter_queues) : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue]]
    },
    {
      title   = "Capacity that the table used"
      stat    = "Sum"
      metrics = [for metric in ["ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"] : ["AWS/DynamoDB", metric, "TableName", var.table_name]]
    },
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.prefix

  dashboard_body = jsonencode({
    widgets = [
      for index, widget in local.widgets : {
        type   = "metric"
        x      = 12 * (index % 2)
        y      = 6 * floor(index / 2)
        width  = 12
        height = 6
        properties = {
          title   = widget.title
          region  = var.region
          view    = "timeSeries"
          stat    = widget.stat
          period  = 300
          metrics = widget.metrics
        }
      }
    ]
  })
}
