output "name" {
  description = "The function's name."
  value       = aws_lambda_function.this.function_name
}

output "arn" {
  description = "Its ARN."
  value       = aws_lambda_function.this.arn
}

output "invoke_arn" {
  description = "What API Gateway calls."
  value       = aws_lambda_function.this.invoke_arn
}
